"""Milliseconds of CPU time a clip, from stored faces to scores: the convolutions, the descriptors, the classifier.

CPU time and the least of some runs, because the clock of a busy machine read ten times as much (102 ms in one search,
1242 in the next), and the choice of a trial rests on these numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fer_core.dataset.prepare import ClipRow, stored_faces
from fer_core.dataset.table import FeatureRequirements
from fer_core.features.backbone import Backbone
from fer_core.features.descriptors.catalogue import DESCRIPTORS
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClipClassifier
from fer_core.preprocess.faces import Faces
from fer_core.workspace import Workspace

Costs = Mapping[str, float]  # `features`, or the name of a descriptor -> milliseconds a clip
FEATURES = "features"
_TIMED_INPUTS, _TIMED_CLIPS, _RUNS = 2, 9, 3


def measure_costs(
    rows: Sequence[ClipRow],
    course: Sequence[ClipRow],
    workspace: Workspace,
    backbone: Backbone | None,
    wanted: FeatureRequirements,
) -> dict[str, float]:
    """Measure the cost of computing a classifier's inputs from the faces of clips of about median length.

    Args:
        rows: of the clips. course: the same of their whole course, where a descriptor is taken of it.
    Raises:
        DataError: the store has lost the faces.
    """
    found = {}
    if wanted.plain and backbone is not None:
        found[FEATURES] = _median_ms(rows, workspace, lambda faces: backbone.features(faces.pixels))
    for name in wanted.descriptors:
        descriptor = DESCRIPTORS[name]
        found[name] = _median_ms(course if descriptor.of_course else rows, workspace, descriptor.of)
    return found


def ms_per_clip(classifier: ClipClassifier, inputs: ClipInputs, clips: np.ndarray, costs: Costs) -> float:
    """CPU time of the classifier, the median of some of the clips, and of what it reads; what was not timed counts
    nothing."""
    seconds = [_cpu_s(classifier.scores, inputs, np.array([clip])) for clip in clips[:_TIMED_CLIPS]]
    read = [FEATURES] * classifier.reads_features + list(classifier.descriptors)
    return 1000 * float(np.median(seconds)) + sum(costs.get(name, 0.0) for name in read)


def _median_ms(rows: Sequence[ClipRow], workspace: Workspace, make: Callable[[Faces], np.ndarray]) -> float:
    lengths = np.array([row.n_used for row in rows])
    nearest = np.argsort(np.abs(lengths - np.median(lengths)), kind="stable")[:_TIMED_INPUTS]
    seconds = [_cpu_s(make, faces) for faces in stored_faces([rows[i] for i in nearest], workspace)]
    return 1000 * float(np.median(seconds))


def _cpu_s(work: Callable[..., object], *args: object) -> float:
    """Least CPU time of some runs of `work`, all its threads together, in seconds."""
    runs = []
    for _ in range(_RUNS):
        started = time.process_time()
        work(*args)
        runs.append(time.process_time() - started)
    return min(runs)
