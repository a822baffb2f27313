"""The options of `ferflow score` for verdicts over time."""

from __future__ import annotations

import re

from pydantic import ValidationError

from fer_core.config import RunConfig, WindowsConfig
from fer_core.errors import ConfigError

_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def seconds_of(text: str) -> float:
    """Return a duration in seconds.

    Raises:
        ConfigError: it is not a number with one of the units.

    Example:
        >>> seconds_of("2s"), seconds_of("500ms"), seconds_of("1.5"), seconds_of("1min")
        (2.0, 0.5, 1.5, 60.0)
    """
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f"'{text[:40]}' is not a duration; write it as 2s, 500ms or 1min")
    return float(found[1]) * _UNITS[found[2]]


def with_windows(config: RunConfig, length: str | None, step: str | None) -> RunConfig:
    """Return the settings with `--windows` and `--step`, where given.

    Raises:
        ConfigError: a duration is wrong, or the two do not go together.
    """
    if length is None and step is None:
        return config
    known = config.score.windows.model_dump()
    known |= {"length_s": seconds_of(length)} if length is not None else {}
    known |= {"step_s": seconds_of(step)} if step is not None else {}
    if not known["length_s"]:
        raise ConfigError("--step needs --windows, such as --windows 2s")
    try:
        windows = WindowsConfig.model_validate(known)
    except ValidationError as exc:
        raise ConfigError("; ".join(e["msg"].removeprefix("Value error, ") for e in exc.errors())) from exc
    return config.model_copy(update={"score": config.score.model_copy(update={"windows": windows})})
