"""A manifest somebody wrote: the generic form `path,label,subject[,dataset,split,clip,apex,start,end,intensity]`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fer_core.clips.datasets.survey import Scan
from fer_core.clips.manifest import Manifest
from fer_core.clips.rows import read_rows


def read(
    root: Path,
    *,
    neutral: bool = False,
    subject: Literal["required", "none"] = "required",
    ignore_split: bool = False,
) -> Scan:
    """The clips a manifest lists. Arguments and errors: `manifest.read_manifest`.

    Args:
        root: the CSV file.
    """
    clips, dropped = read_rows(root, labelled=True, subject=subject, neutral=neutral, ignore_split=ignore_split)
    warnings = []
    missing = [c for c in clips if not c.path.exists()]
    if missing:
        warnings.append(
            f"{root.name}: {len(missing)} of {len(clips)} clips are not there, the first is {missing[0].path}"
        )
    if subject == "none" and any(not c.subject for c in clips):
        warnings.append(f"{root.name}: clips without a subject cannot be split so that no person is on two sides")
    return Scan(Manifest(clips), dropped, tuple(warnings))
