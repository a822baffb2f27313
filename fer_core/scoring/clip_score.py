"""The scores of a clip, and its row in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fer_core.emotions import Classes
from fer_core.errors import ClipStatus
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import FrameView
from fer_core.preprocess.faces import Ledger
from fer_core.scoring.windows import Windows


@dataclass(frozen=True)
class Scores:
    """The model's scores of a clip's faces.

    Args:
        frames: (n, k) scores of the used frames; with a whole-clip model, all are the clip's scores.
        probabilities: (k,) calibrated scores of the clip, sum 1.
        index: index of the predicted class.
        inputs: the inputs that the model read.
        view: scores and weights of single frames; None for a model that does not combine frames.
        flags: see `ClipClassifier.flags`.
    """

    frames: np.ndarray
    probabilities: np.ndarray
    index: int
    inputs: ClipInputs
    view: FrameView | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipScore:
    """One row of the results; every clip gets one, also if it cannot be scored.

    Args:
        clip: id of the clip.
        path: path of the file.
        label: true class, if a manifest names it.
        subject, dataset, groups: of the clip in its manifest; empty without one.
        seen_in_training: True if the model was trained on the clip's subject; None if the subject is unknown.
        status: `ok`, `low_quality`, or the kind of error.
        reason: explanation of the status; empty if it is `ok`.
        emotion: predicted class; None without a prediction.
        probabilities: (k,) calibrated, in the model's class order; None without a prediction.
        abstained: True if the prediction is too uncertain, or the clip's quality too low.
        n_used, n_selected, n_frames: numbers of frames with a face, selected, and decoded.
        duration_s: duration of the clip in seconds; 0 if unknown.
        person: number of the person in the clip, from 1, by first appearance.
        windows: verdicts over time; None unless requested, or if the clip has no times.
        looked_at: all frames that were read for the windows; None without windows.
        film: path of the film in the results folder; empty if there is none.
        flags: of preprocessing (`several_faces`, `truncated` ...).
        digest: content digest of the clip; empty if it could not be read.
        ledger: all selected frames.
        frame_scores: (n_used, k) scores of the used frames; None for a model that does not combine frames.
        frame_shares: (n_used,) weights of these frames; None likewise.
        thumbnail: JPEG of the face with the largest margin, or of the last face; empty without a face.
        decisive: indices, among the used frames, of the explained frames; empty unless requested.
        explanation: JPEG of their faces with Grad-CAM heat maps, and of the moved points for a model that reads motion;
            empty unless requested.
        processing_s: wall-clock time of scoring the clip, in seconds.
    """

    clip: str
    path: str
    status: ClipStatus
    classes: Classes
    reason: str = ""
    label: str | None = None
    subject: str = ""
    dataset: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    seen_in_training: bool | None = None
    emotion: str | None = None
    probabilities: np.ndarray | None = None
    abstained: bool = False
    n_used: int = 0
    n_selected: int = 0
    n_frames: int = 0
    duration_s: float = 0.0
    person: int = 1
    windows: Windows | None = None
    looked_at: Ledger | None = None
    film: str = ""
    flags: tuple[str, ...] = ()
    digest: str = ""
    ledger: Ledger | None = None
    frame_scores: np.ndarray | None = None
    frame_shares: np.ndarray | None = None
    thumbnail: bytes = b""
    decisive: tuple[int, ...] = ()
    explanation: bytes = b""
    processing_s: float = 0.0

    @property
    def confidence(self) -> float:
        """Calibrated probability of the predicted class; NaN without a prediction."""
        if self.probabilities is None or self.emotion is None:
            return float("nan")
        return float(self.probabilities[self.classes.index(self.emotion)])

    @property
    def fps(self) -> float:
        """Mean number of frames per second; NaN if the duration is unknown."""
        return self.n_frames / self.duration_s if self.duration_s > 0 else float("nan")

    @property
    def by_class(self) -> dict[str, float]:
        """Calibrated probability of every class, by its name; NaN without a prediction."""
        values = [float("nan")] * len(self.classes) if self.probabilities is None else self.probabilities.tolist()
        return {str(name): value for name, value in zip(self.classes, values, strict=True)}
