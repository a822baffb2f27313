"""All errors that a user can cause or repair. Messages say what is wrong, where, and the remedy.

FerError
├── ConfigError      a setting is wrong, or two settings contradict each other
├── DataError        a manifest, a database folder or a split cannot be used
├── ClipError        one clip cannot be used; carries the status for its row
├── ShapeError       an array does not have the required shape
├── WeightsError     weights of a network are missing, damaged, or not the expected ones
├── TrainingError    a fit cannot start or has diverged
├── StoreError       the workspace or its stores cannot be read or written
├── TrackingError    the MLflow server does not answer or refuses a request
│   └── TrackingAway it does not answer, or cannot reach its database
└── RegistryError    a model version is missing, incomplete or altered
"""

from enum import StrEnum
from pathlib import Path


class ClipStatus(StrEnum):
    """The outcome of one clip; every row of a scored batch has exactly one."""

    OK = "ok"
    LOW_QUALITY = "low_quality"
    NO_FACE = "no_face"
    DAMAGED = "damaged"
    UNSUPPORTED = "unsupported"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    MISSING = "missing"
    REJECTED = "rejected"

    @property
    def scored(self) -> bool:
        """Return True if the clip has scores."""
        return self in (ClipStatus.OK, ClipStatus.LOW_QUALITY)

    @property
    def transient(self) -> bool:
        """Return True if a second attempt may succeed; other statuses are final."""
        return self in (ClipStatus.MISSING, ClipStatus.TIMEOUT, ClipStatus.CRASHED)


class FerError(Exception):
    """Base of all errors that are shown to the user in one sentence, without a traceback."""


class ConfigError(FerError):
    pass


class DataError(FerError):
    pass


class ClipError(FerError):
    """One clip cannot be used.

    Args:
        status: the status of the clip's row in a result table; never `ok` or `low_quality`.
        reason: one sentence with both numbers (had, needs) where there are any.
    """

    def __init__(self, status: ClipStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type["ClipError"], tuple[ClipStatus, str]]:
        return (ClipError, (self.status, self.reason))  # pickled between processes


class ShapeError(FerError, ValueError):
    pass


class WeightsError(FerError):
    pass


class TrainingError(FerError):
    pass


class StoreError(FerError):
    pass


class TrackingError(FerError):
    pass


class TrackingAway(TrackingError):
    pass


class RegistryError(FerError):
    pass


def no_manifest(path: Path) -> DataError:
    """Return the error of a run whose manifest is not there."""
    return DataError(
        f"no manifest at {path}; make one with 'ferflow data scan folder ROOT --out {path}', draw one with "
        "'ferflow data synth', or name yours behind the command"
    )
