"""A split on disk: the manifest with its sides, and beside it how it was made, so that it can be made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest, fingerprint, write_manifest
from fer_core.clips.splits import check_split
from fer_core.config import SplitConfig
from fer_core.store import write_atomic


@dataclass(frozen=True)
class SplitRecord:
    """Record of a split: its settings, and the clips and people of each side.

    Args:
        settings: the SplitConfig, seed included.
        fingerprint: of the manifest with its sides (`manifest.fingerprint`).
        clips: side -> emotion -> clips; the rows of Table 3.2.
        subjects: side -> subjects.
        warnings: classes without a clip on a side.
    """

    settings: Mapping[str, Any]
    fingerprint: str
    clips: Mapping[str, Mapping[str, int]]
    subjects: Mapping[str, int]
    warnings: tuple[str, ...]


def describe_split(manifest: Manifest, cfg: SplitConfig, digests: Mapping[str, str]) -> SplitRecord:
    """The record of a split manifest. Raises DataError when it cannot be used, see `splits.check_split`."""
    sides = {side.value: manifest.of(side) for side in Split if manifest.of(side).clips}
    return SplitRecord(
        settings=cfg.model_dump(mode="json"),
        fingerprint=fingerprint(manifest, digests),
        clips={side: {str(e): n for e, n in part.class_counts().items()} for side, part in sides.items()},
        subjects={side: len(part.subjects) for side, part in sides.items()},
        warnings=check_split(manifest),
    )


def write_split(manifest: Manifest, path: Path, cfg: SplitConfig, digests: Mapping[str, str]) -> SplitRecord:
    """Write `clips.csv` and beside it `clips.split.json`; returns what the latter says.

    Raises:
        DataError: the split cannot be used. StoreError: a file cannot be written.
    """
    record = describe_split(manifest, cfg, digests)
    write_manifest(manifest, path)
    write_atomic(path.with_suffix(".split.json"), (json.dumps(asdict(record), indent=2) + "\n").encode())
    return record
