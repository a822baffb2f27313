"""Readers of databases in their form on disk, one per database; `scan` calls the reader by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fer_core.clips.datasets import afew, ckplus, cremad, folder, ised, listed, mmi, mug, ravdess
from fer_core.clips.datasets.survey import Scan, may_leave
from fer_core.emotions import SIX, Classes
from fer_core.errors import ConfigError

__all__ = ["READERS", "Scan", "may_leave", "reader_options", "scan"]

READERS: Mapping[str, Callable[..., Scan]] = {
    "ckplus": ckplus.read,
    "mug": mug.read,
    "mmi": mmi.read,
    "ised": ised.read,
    "afew": afew.read,
    "ravdess": ravdess.read,
    "cremad": cremad.read,
    "folder": folder.read,
    "manifest": listed.read,
}


def scan(name: str, root: Path, *, classes: Classes | None = SIX, **options: Any) -> Scan:
    """Read the database under `root` with the reader `name`; return the clips kept, drops by reason, and warnings.

    Args:
        classes: the allowed labels; clips of others are dropped and counted. None makes every label a class.
        options: options of this reader, see `reader_options`.
    Raises:
        ConfigError: the reader or option does not exist.
        DataError: no usable clip is found.
    """
    if name not in READERS:
        raise ConfigError(f"no reader '{name}'{_near(name, READERS)}; there are {', '.join(READERS)}")
    accepted = reader_options(name)
    for option in options:
        if option not in accepted:
            raise ConfigError(
                f"reader '{name}' has no option '{option}'{_near(option, accepted)}; it has {', '.join(accepted)}"
            )
    return READERS[name](root, classes=classes, **options)


def reader_options(name: str) -> dict[str, Any]:
    """Return the options of a reader with their defaults, without `classes`, which every reader takes."""
    parameters = inspect.signature(READERS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "classes"}


def _near(word: str, words: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
