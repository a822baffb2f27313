"""Adopted networks, read against a neutral face: the clip's own, or one of the person's other clips.

`python -m benchmarks.neutral_reference [MANIFEST …]` reads labelled manifests, or drawn clips. Nothing is fitted.
Prints the mean recall in % over those of the six classes that a manifest has.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import WeightsError
from fer_core.evaluation.metrics import mean_recall
from fer_core.experiments.adoption import adopted_backbone
from fer_core.models.adopted import OF_NEUTRAL, whole_course
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.store import FacesStore

NETWORKS = ("fer2013", "face-api", "fer2013+face-api")
SUBJECTS = 6  # number of drawn people


def main(*manifests: str) -> None:
    """Print one row per manifest and network."""
    print("| clips | networks | plain | own neutral face | another clip's | own, else another clip's |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        sets: dict[str, Sequence[Clip]] = {m: read_manifest(Path(m)).clips for m in manifests}
        for name, clips in (sets or {"drawn": synthesize(Path(folder) / "drawn", SUBJECTS, seed=0).clips}).items():
            cfg, store = whole_course(PreprocessConfig()), FacesStore(Path(folder) / "store")
            made = [m for m in preprocess_batch(clips, cfg, LimitsConfig(), store) if m.faces and m.faces.n_used]
            for networks in NETWORKS:
                try:
                    network = adopted_backbone(networks)
                except WeightsError as exc:
                    print(f"{networks} is left out: {exc}", file=sys.stderr)
                    continue
                parts = [network.features(m.faces.pixels).astype(np.float64) for m in made if m.faces]
                logs = [part.reshape(len(part), -1, len(SEVEN)).mean(axis=1) for part in parts]
                cells = " | ".join(f"{100 * recall:.1f}" for recall in _recalls(logs, [m.clip for m in made]))
                print(f"| {name}, {len(made)} | {networks} | {cells} |")


def _recalls(logs: Sequence[np.ndarray], clips: Sequence[Clip]) -> list[float]:
    """Return the mean recall for log probabilities (frames, 7) per clip: plain, and with each kind of neutral face."""
    labels = np.array([SIX.index(Emotion(clip.emotion)) for clip in clips])
    own = [_neutral(log) for log in logs]
    others = [
        [face for face, them in zip(own, clips, strict=True) if them.subject == clip.subject and them is not clip]
        for clip in clips
    ]
    theirs = [np.mean([f for f in faces if f is not None], axis=0) if any(f is not None for f in faces) else None
              for faces in others]  # fmt: skip
    own_first = [mine if mine is not None else other for mine, other in zip(own, theirs, strict=True)]
    kinds = ([None] * len(logs), own, theirs, own_first)
    return [
        mean_recall(np.array([_verdict(log, face) for log, face in zip(logs, kind, strict=True)]), labels, len(SIX))
        for kind in kinds
    ]


def _neutral(log: np.ndarray) -> np.ndarray | None:
    """Return the log probabilities, (7,), of the first face that the network classifies as neutral, or None."""
    at = np.flatnonzero(log.argmax(axis=1) == SEVEN.index(Emotion.NEUTRAL))
    return log[at[0]] if len(at) else None


def _verdict(log: np.ndarray, neutral: np.ndarray | None) -> int:
    """Return the index of the class of the clip's second half."""
    relative = log[len(log) // 2 :].mean(axis=0) - (0 if neutral is None else OF_NEUTRAL * neutral)
    return int(relative[: len(SIX)].argmax())


if __name__ == "__main__":
    main(*sys.argv[1:])
