"""Errors that the terminal shows as one line, without a traceback."""


class UserError(Exception):
    """Bad input. The message names the key or file and how to correct it. Exit status 2."""


class Failure(Exception):
    """A problem during a correctly configured run, such as a full disk. Exit status 1."""
