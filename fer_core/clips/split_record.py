"""Write a split to disk: the manifest with its sides, and a JSON file of the settings needed to make it again."""

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
    """Settings of a split, and the number of clips and subjects on each side.

    Args:
        settings: fields of the SplitConfig, with the seed.
        fingerprint: `manifest.fingerprint` of the manifest with its sides.
        clips: side -> emotion -> number of clips, as in Table 3.2.
        subjects: side -> number of subjects.
        warnings: sentences on classes that have no clip on a side.
    """

    settings: Mapping[str, Any]
    fingerprint: str
    clips: Mapping[str, Mapping[str, int]]
    subjects: Mapping[str, int]
    warnings: tuple[str, ...]


def describe_split(manifest: Manifest, cfg: SplitConfig, digests: Mapping[str, str]) -> SplitRecord:
    """Return the record of a split manifest.

    Args:
        manifest: with a side for every clip.
        cfg: settings that made the split.
        digests: clip id -> content digest, for every clip.
    Raises:
        DataError: the split cannot be used (see `splits.check_split`), or a clip has no digest.
    """
    sides = {side.value: manifest.of(side) for side in Split if manifest.of(side).clips}
    return SplitRecord(
        settings=cfg.model_dump(mode="json"),
        fingerprint=fingerprint(manifest, digests),
        clips={side: {str(e): n for e, n in part.class_counts().items()} for side, part in sides.items()},
        subjects={side: len(part.subjects) for side, part in sides.items()},
        warnings=check_split(manifest),
    )


def write_split(manifest: Manifest, path: Path, cfg: SplitConfig, digests: Mapping[str, str]) -> SplitRecord:
    """Write the manifest to `path` and its record beside it (`clips.csv`, `clips.split.json`); return the record.

    Raises:
        DataError: the split cannot be used, or a clip has no digest.
        StoreError: a file cannot be written.
    """
    record = describe_split(manifest, cfg, digests)
    write_manifest(manifest, path)
    write_atomic(path.with_suffix(".split.json"), (json.dumps(asdict(record), indent=2) + "\n").encode())
    return record
