"""The one error that is meant for the person at the keyboard."""


class InputError(ValueError):
    """Something that the user gave cannot be used: the message names it, what was expected, and what to do.

    The command line prints it as a single line and exits with 2; any other exception is a bug and keeps its traceback.
    """
