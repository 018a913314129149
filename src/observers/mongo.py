"""stub"""


def observers(url):
    return []
