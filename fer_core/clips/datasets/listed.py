"""Reader of a user's manifest, the generic form `path,label,subject[,dataset,split,clip,apex,start,end,intensity]`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from fer_core.clips.clip import FRAME_SUFFIXES, Clip
from fer_core.clips.datasets.survey import APEX_UNKNOWN, Scan, media_reason
from fer_core.clips.label_words import read_label_map
from fer_core.clips.manifest import Manifest
from fer_core.clips.rows import read_rows
from fer_core.emotions import SIX, Classes
from fer_core.errors import ConfigError


def read(
    root: Path,
    *,
    classes: Classes | None = SIX,
    subject: Literal["known", "required", "none"] = "known",
    ignore_split: bool = False,
    labels: str = "",
    keep_ids: bool = False,
) -> Scan:
    """Return the clips that a manifest lists, except those that are not videos. Errors: `manifest.read_manifest`.

    Args:
        root: the CSV file.
        subject: `known` leaves out rows without a subject, `required` raises at the first one, `none` keeps them.
        ignore_split: ignore the split column.
        labels: file that maps the manifest's words to labels, see `read_label_map`.
        keep_ids: treat subjects that differ only in spelling as different people.
    """
    if subject not in ("known", "required", "none"):
        raise ConfigError(f"subject is known, required or none; got '{subject}'")
    words = read_label_map(Path(labels), classes) if labels else None
    rows = read_rows(
        root,
        labelled=True,
        subject=subject,
        classes=classes,
        ignore_split=ignore_split,
        keep_ids=keep_ids,
        words=words,
    )
    clips, dropped = rows.clips, rows.dropped
    warnings = [f"{root.name}: {note}" for note in rows.notes()]
    missing = [c for c in clips if not c.path.exists()]
    absent = {c.id for c in missing}
    reasons = {c.id: media_reason(c.path, least_frames=1) for c in clips if c.id not in absent and _inside(c)}
    dropped = Counter(dropped) + Counter(filter(None, reasons.values()))
    clips = tuple(c for c in clips if not reasons.get(c.id))
    if missing:
        warnings.append(
            f"{root.name}: {len(missing)} of {len(clips)} clips are not there, the first is {missing[0].path}"
        )
    if subject == "none" and any(not c.subject for c in clips):
        warnings.append(f"{root.name}: clips without a subject cannot be split so that no person is on two sides")
    if n := sum(clip.apex is None and clip.path.suffix.lower() not in FRAME_SUFFIXES for clip in clips):
        warnings.append(f"{root.name}: {APEX_UNKNOWN.format(n=n, of=len(clips))}")
    return Scan(Manifest.of_classes(clips, classes), dropped, tuple(warnings), joined=rows.joined)


def _inside(clip: Clip) -> bool:
    """Return True if a clip lies inside its root.

    A symbolic link may lead out of the root. Such a clip is not opened here; it is refused when it is used.
    """
    return clip.root is None or clip.path.resolve().is_relative_to(clip.root.resolve())
