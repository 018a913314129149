"""What reaches the terminal as a single line."""


class UserError(Exception):
    """Bad input that the user can mend; the message names the key or the file and says what to do. Exit status 2."""


class Failure(Exception):
    """What stops a run that was set up rightly. Exit status 1."""
