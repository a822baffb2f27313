"""Features of neutral faces: a clip's first frames, before an expression hides who is shown (`clips.lookalikes`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.features.backbone import Backbone
from fer_core.features.store import FeatureStore
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore

FIRST_FRAMES = 3
PER_SUBJECT = 2  # clips read per subject: finds 44 of 48 subjects with two ids; three clips find only 42

_CUT = PreprocessConfig(selection="all", apex="given")


def neutral_features(
    clips: Sequence[Clip],
    backbone: Backbone,
    limits: LimitsConfig,
    store_root: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Return clip id -> (d,) float32 mean features of the faces in the clip's first frames; faces and features are
    stored.

    These clips are left out: clips without a subject, all but the first two clips of a subject, unusable clips, and
    clips without a face at the beginning.

    Args:
        store_root: the workspace's `store` folder.
        progress: called with (clips done, all clips).

    Raises:
        StoreError: the store cannot be written.
        FerError: no child process can be started.
    """
    features = FeatureStore(store_root)
    seen: Counter[str] = Counter()
    chosen = []
    for clip in clips:
        if clip.subject and seen[clip.subject] < PER_SUBJECT:
            seen[clip.subject] += 1
            chosen.append(replace(clip, apex=FIRST_FRAMES - 1))  # the clip is cut there
    found = {}
    for made in preprocess_batch(chosen, _CUT, limits, FacesStore(store_root), progress=progress):
        if made.faces is not None and made.faces.n_used:
            found[made.clip.id] = features.extract(made.faces, backbone).astype(np.float32).mean(axis=0)
    return found
