"""stub"""


def observers(tb, wandb):
    return []
