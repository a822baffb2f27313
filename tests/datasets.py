"""A split corpus whose faces are in the store already: nothing to decode, everything after that is real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest
from fer_core.emotions import SIX
from fer_core.errors import ClipStatus
from fer_core.preprocess.clip_rows import ClipRow
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.preprocess.store import FacesStore
from fer_core.store import cache_key
from fer_core.workspace import Workspace

SIDES: Mapping[Split, int] = {Split.TRAIN: 3, Split.VALIDATION: 1, Split.TEST: 1}


def stored_corpus(
    workspace: Workspace, sides: Mapping[Split, int] = SIDES, frames: int = 2, dataset: str = "patterns-synthetic"
) -> tuple[Manifest, list[ClipRow]]:
    """One clip of every emotion per subject; a face is its emotion's blotches, dimmed by subject, with noise."""
    rng = np.random.default_rng(0)
    patterns = [cv2.resize(rng.uniform(0, 255, (7, 7)), (224, 224), interpolation=cv2.INTER_CUBIC) for _ in SIX]
    clips, rows, number = [], [], 0
    for side, n_subjects in sides.items():
        for _ in range(n_subjects):
            subject = f"{dataset}:s{number:02d}"
            for emotion, pattern in zip(SIX, patterns, strict=True):
                clip = Clip(
                    id=f"{dataset}/s{number:02d}_{emotion}", path=Path(f"/nowhere/{number}_{emotion}.mp4"),
                    subject=subject, emotion=emotion, dataset=dataset, split=side,
                )  # fmt: skip
                noisy = 0.6 * pattern + rng.normal(60 + 5 * number, 45, (frames, 224, 224))
                rows.append(_store(workspace, clip, np.clip(noisy, 0, 255).astype(np.uint8)))
                clips.append(clip)
            number += 1
    return Manifest(tuple(clips)), rows


def _store(workspace: Workspace, clip: Clip, pixels: np.ndarray) -> ClipRow:
    n = len(pixels)
    key = cache_key(clip=clip.id)
    ledger = Ledger(
        frame=np.arange(n, dtype=np.int32), time_s=np.arange(n, dtype=np.float32) / 25,
        status=(FrameStatus.USED,) * n, box=np.zeros((n, 4), np.int32), weight=np.ones(n, np.float32),
    )  # fmt: skip
    FacesStore(workspace.store).put(Faces(key=key, clip_digest=key, pixels=pixels, ledger=ledger, n_frames=2 * n))
    return ClipRow(clip=clip.id, digest=key, key=key, status=ClipStatus.OK, n_frames=2 * n, n_selected=n, n_used=n)
