"""The servers of one workspace: how MLflow is started, how programs are watched over, where they are found.
Imports nothing of the other packages.
"""


class ServerError(Exception):
    """A server cannot be started or reached; the message says what, where and the remedy."""
