"""Latency: CPU time in ms per clip from stored faces to scores (convolutions, descriptors, classifier).

The search selects trials by latency, so it must be reproducible. Wall-clock time is not: on a busy machine it was ten
times as large (102 ms in one search, 1242 ms in the next). Therefore we take the smallest CPU time of several runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fer_core.dataset.table import FeatureRequirements
from fer_core.features.backbone import Backbone
from fer_core.features.descriptors.catalogue import DESCRIPTORS
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL, neutral_reference
from fer_core.models.base import ClipClassifier, ClipModel
from fer_core.preprocess.clip_rows import ClipRow, stored_faces
from fer_core.preprocess.faces import Faces
from fer_core.workspace import Workspace

LatencyOf = Mapping[str, float]  # `features`, `neutral` or the name of a descriptor -> ms per clip
FEATURES = "features"
_TIMED_INPUTS, _TIMED_CLIPS, _RUNS = 2, 9, 3


def measure_latency(
    rows: Sequence[ClipRow],
    course: Sequence[ClipRow],
    workspace: Workspace,
    backbone: Backbone | None,
    wanted: FeatureRequirements,
) -> dict[str, float]:
    """Measure the CPU time for computing a classifier's inputs from faces, on clips of about median length.

    Args:
        rows: rows of the clips' expression faces.
        course: rows of the clips' whole-course faces, if `wanted` needs them.
        wanted: the features and descriptors to measure.
    Returns:
        `features`, `neutral` or the name of a descriptor -> ms per clip.
    Raises:
        DataError: the faces are not in the store any more.
    """
    found = {}
    if wanted.plain and backbone is not None:
        found[FEATURES] = _median_ms(rows, workspace, lambda faces: backbone.features(faces.pixels))
        if wanted.neutral:
            found[NEUTRAL] = _median_ms(course, workspace, lambda faces: neutral_reference(backbone, faces.pixels))
    for name in wanted.descriptors:
        descriptor = DESCRIPTORS[name]
        found[name] = _median_ms(course if descriptor.of_course else rows, workspace, descriptor.of)
    return found


def ms_per_clip(classifier: ClipClassifier, inputs: ClipInputs, clips: np.ndarray, latency: LatencyOf) -> float:
    """Return the latency of a classifier in ms per clip: its median CPU time plus the latency of its inputs.

    Inputs that are not in `latency` count as 0.
    """
    seconds = [_cpu_s(classifier.scores, inputs, np.array([clip])) for clip in clips[:_TIMED_CLIPS]]
    return 1000 * float(np.median(seconds)) + sum(latency.get(name, 0.0) for name in inputs_read(classifier))


def inputs_read(of: ClipClassifier | ClipModel) -> list[str]:
    """Return the names of the inputs that a classifier or model reads, as in `LatencyOf`."""
    descriptors = (name if isinstance(name, str) else name.name for name in of.descriptors)
    return [FEATURES] * of.reads_features + [NEUTRAL] * of.reads_neutral + list(descriptors)


def _median_ms(rows: Sequence[ClipRow], workspace: Workspace, make: Callable[[Faces], np.ndarray]) -> float:
    lengths = np.array([row.n_used for row in rows])
    nearest = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")[:_TIMED_INPUTS]
    seconds = [_cpu_s(make, faces) for faces in stored_faces([rows[i] for i in nearest], workspace.store)]
    return 1000 * float(np.median(seconds))


def _cpu_s(work: Callable[..., object], *args: object) -> float:
    """Return the smallest CPU time of three runs of `work` in seconds, summed over all threads."""
    runs = []
    for _ in range(_RUNS):
        started = time.process_time()
        work(*args)
        runs.append(time.process_time() - started)
    return min(runs)
