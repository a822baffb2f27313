"""The sign of life of a process that decodes: one for each minute of film, for which its clip is allowed more time."""

from __future__ import annotations

MINUTE = 1500  # frames that count as a minute, 25 a second
BEAT = b".\n"  # what the process answers for each, before the answer itself


def no_beat() -> None:
    """Called for each decoded minute where nobody keeps the time."""
