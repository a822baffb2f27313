"""A manifest somebody wrote: the generic form `path,label,subject[,dataset,split,clip,apex,start,end,intensity]`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from fer_core.clips.clip import Clip
from fer_core.clips.datasets.survey import Scan, media_reason
from fer_core.clips.manifest import Manifest
from fer_core.clips.rows import read_rows
from fer_core.emotions import SIX, Classes


def read(
    root: Path,
    *,
    classes: Classes | None = SIX,
    subject: Literal["required", "none"] = "required",
    ignore_split: bool = False,
) -> Scan:
    """The clips a manifest lists, but for those that are no video. Arguments and errors: `manifest.read_manifest`.

    Args:
        root: the CSV file.
    """
    clips, dropped = read_rows(root, labelled=True, subject=subject, classes=classes, ignore_split=ignore_split)
    warnings = []
    reasons = {c.id: media_reason(c.path, least_frames=1) for c in clips if c.path.exists() and _inside(c)}
    dropped = Counter(dropped) + Counter(filter(None, reasons.values()))
    clips = tuple(c for c in clips if not reasons.get(c.id))
    missing = [c for c in clips if not c.path.exists()]
    if missing:
        warnings.append(
            f"{root.name}: {len(missing)} of {len(clips)} clips are not there, the first is {missing[0].path}"
        )
    if subject == "none" and any(not c.subject for c in clips):
        warnings.append(f"{root.name}: clips without a subject cannot be split so that no person is on two sides")
    return Scan(Manifest.of_classes(clips, classes), dropped, tuple(warnings))


def _inside(clip: Clip) -> bool:
    """True if a clip lies where it seems to; a link out of the tree is not opened, and refused when it is used."""
    return clip.root is None or clip.path.resolve().is_relative_to(clip.root.resolve())
