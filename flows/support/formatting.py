"""Format results of flows for people, on the terminal and on a run's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def format_result(name: str, value: Any) -> str:
    """Return a value of a flow's result as text: numbers rounded, recall with interval in %, evaluations by recall."""
    if name in ("mean_recall", "accuracy"):
        mean, low, high = (100 * v for v in value)
        return f"{mean:.1f} % [{low:.1f}, {high:.1f}]"
    if isinstance(value, Mapping) and "confusion" in value:  # an evaluation; --json and MLflow have all of it
        return format_result("mean_recall", value["mean_recall"])
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {format_result(str(k), v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(format_result("", v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return seconds as text with two units at most: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
