"""The servers of one workspace: start of MLflow, supervision of programs, and their addresses.

This package imports no other package of the project.
"""


class ServerError(Exception):
    """A server cannot be started or reached; the message says what is wrong, where, and the remedy."""
