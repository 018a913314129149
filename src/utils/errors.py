"""The one exception for what the user can mend: it reaches the terminal as a single line, with exit status 2."""


class UserError(Exception):
    """Bad input; the message names the key or the file and says what to do."""
