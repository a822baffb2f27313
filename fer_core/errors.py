"""Every error a user can cause or mend. Messages say what, where, and the remedy.

FerError
├── ConfigError      a setting is wrong, or two settings contradict each other
├── DataError        a manifest, a database folder or a split is not fit for use
├── ClipError        one clip cannot be used; carries the status its row gets
├── ShapeError       an array does not have the shape its station asks for
├── WeightsError     backbone weights are missing, or are not what they claim to be
├── TrainingError    a fit cannot start or has diverged
├── StoreError       the workspace or its stores cannot be read or written
├── TrackingError    the MLflow server is away or refuses
└── RegistryError    a model version is missing, incomplete or altered
"""

from enum import StrEnum


class ClipStatus(StrEnum):
    """Outcome of one clip; every row of a scored batch has exactly one."""

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
        """True if the clip has scores at all."""
        return self in (ClipStatus.OK, ClipStatus.LOW_QUALITY)

    @property
    def transient(self) -> bool:
        """True if trying again may help; the rest are final."""
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
        status: the status its row in a result table gets; never `ok` or `low_quality`.
        reason: one sentence with both numbers (had, needs) where there are any.
    """

    def __init__(self, status: ClipStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type["ClipError"], tuple[ClipStatus, str]]:
        return (ClipError, (self.status, self.reason))  # it crosses process borders


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


class RegistryError(FerError):
    pass
