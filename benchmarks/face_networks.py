"""Face networks as published, and models trained on their features: recall, other people's smiles, clips without one.

`python -m benchmarks.face_networks [TRAIN.csv SMILES.csv …]` prints, without manifests on a few drawn clips:

1. Adopted networks, read against a neutral face: the clip's own, or one of the person's other clips. Nothing is fitted.
   Mean recall in % over those of the six classes that a manifest has.
2. With two manifests: for adopted networks and for models trained on the first, mean recall in five folds by subject,
   and the shares of the second's clips called happiness: as filmed, held at their first frame, and played backwards.
3. Milliseconds a face of the backbones.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks import features
from fer_core.clips.clip import Clip
from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import BackboneConfig, LimitsConfig, PreprocessConfig, RunConfig, SplitConfig, TrainConfig
from fer_core.dataset.dataset import Dataset, keep_usable
from fer_core.dataset.load import load_dataset
from fer_core.dataset.training_table import training_table
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import DataError, WeightsError
from fer_core.evaluation.cross_validation import hold_out
from fer_core.evaluation.latency import measure_latency
from fer_core.evaluation.metrics import mean_recall
from fer_core.experiments.adoption import adopted_backbone, adopted_classifier, evaluate_adopted, write_adopted
from fer_core.experiments.comparison import compare
from fer_core.features.descriptors.descriptor import course_config
from fer_core.features.load_backbone import load_backbone
from fer_core.model_names import MODEL_NAMES
from fer_core.models.adopted import OF_NEUTRAL, whole_course
from fer_core.models.base import Fits
from fer_core.models.bundle import ModelBundle, write_bundle
from fer_core.models.record import ModelFacts
from fer_core.models.registry import model_of, requirements_of
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.clip_rows import store_faces
from fer_core.preprocess.store import FacesStore
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer
from fer_core.workspace import Workspace

TRAINED: dict[str, tuple[str, dict[str, object]]] = {  # row -> backbone and settings of the model
    "head on `efficientnet-lite0`": ("efficientnet-lite0", {}),
    "head on `fer2013`": ("fer2013", {}),
    "head on `fer2013`, relative to neutral": ("fer2013", {"relative": "neutral"}),
    "head on `face-api`, relative to neutral": ("face-api", {"relative": "neutral"}),
    **{
        f"`{name}`": ("fer2013", {"model": name})
        for name in ("displacement-svm", "lbp-change-svm", "landmarks-svm")
        if name in MODEL_NAMES
    },
    "`appearance-displacement` on `fer2013`, relative to neutral": (
        "fer2013", {"model": "appearance-displacement", "relative": "neutral"},
    ),
}  # fmt: skip
NETWORKS = ("fer2013", "face-api", "fer2013+face-api")
SUBJECTS = 6  # number of drawn people


def main(*manifests: str) -> None:
    """Print the tables."""
    neutral_references(*manifests)
    if len(manifests) == 2:
        print()
        beside_trained_models(*map(Path, manifests))
    print()
    features.main()


def neutral_references(*manifests: str) -> None:
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


def beside_trained_models(train: Path, smiles: Path) -> None:
    """Print one row per adopted network and per model trained on the clips of `train`."""
    print(
        f"Trained or judged on {train.parent.name}; the smiles are {smiles.parent.name}'s. Seven: neutral is a class."
    )
    print("\n| model | five folds, mean recall % | smiles called happiness | first frame held, of seven: neutral |"
          " happiness | backwards, of seven: happiness | CPU ms a clip |")  # fmt: skip
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        workspace, shown = Workspace(Path(folder) / "workspace"), variants(smiles, Path(folder))
        cfg = RunConfig(
            manifest=str(train), split=SplitConfig(test=0), preprocess=PreprocessConfig(max_frames=8),
            neutral_from=tuple({clip.dataset for clip in read_manifest(train).clips}),
        )  # fmt: skip
        for networks in NETWORKS:
            _row(f"`{networks}`, no training", lambda c, n=networks: _adopted(n, c, workspace), cfg, shown)
        for name, (backbone, settings) in TRAINED.items():
            own = cfg.model_copy(
                update={"backbone": BackboneConfig(name=backbone), "train": TrainConfig.model_validate(settings)}
            )
            _row(name, lambda c: _trained(c, workspace), own, shown)


def variants(manifest: Path, folder: Path) -> dict[str, list[Item]]:
    """Return variant -> the manifest's clips: as filmed, held at their first frame, played backwards from the apex."""
    clips = read_manifest(manifest).clips
    found: dict[str, list[Item]] = {"filmed": [Item(clip) for clip in clips], "held": [], "backwards": []}
    for clip in clips:
        with av.open(str(clip.path)) as film:
            frames = [frame.to_ndarray(format="bgr24") for frame in film.decode(video=0)][: (clip.apex or 10**6) + 1]
        for variant, shown in (("held", frames[:1] * len(frames)), ("backwards", frames[::-1])):
            place = folder / variant / clip.id.replace("/", "_")
            place.mkdir(parents=True)
            for i, picture in enumerate(shown):
                cv2.imwrite(str(place / f"{i:04d}.png"), picture)
            found[variant].append(Item(replace(clip, id=place.name, path=place, apex=None, root=None)))
    return found


def _row(
    name: str, made: Callable[[RunConfig], tuple[ModelBundle, str, float]], cfg: RunConfig,
    shown: dict[str, list[Item]],
) -> None:  # fmt: skip
    try:
        six, recall, ms = made(cfg)
        seven, _, _ = made(cfg.model_copy(update={"classes": "seven"}))
    except WeightsError as exc:
        print(f"{name} is left out: {exc}", file=sys.stderr)
        return
    smiles, held, back = (
        _verdicts(bundle, shown[variant])
        for bundle, variant in ((six, "filmed"), (seven, "held"), (seven, "backwards"))
    )
    cells = (_share(smiles, Emotion.HAPPINESS), _share(held, Emotion.NEUTRAL), _share(held, Emotion.HAPPINESS),
             _share(back, Emotion.HAPPINESS))  # fmt: skip
    print(f"| {name} | {recall} | {' | '.join(cells)} | {ms:.0f} |", flush=True)


def _verdicts(bundle: ModelBundle, items: Sequence[Item]) -> list[str]:
    rows = list(ClipScorer(bundle).score_many(items))
    if failed := [f"{row.clip}: {row.reason}" for row in rows if row.emotion is None]:
        raise DataError(f"{len(failed)} clips have no verdict, the first is {failed[0]}")
    return [str(row.emotion) for row in rows]


def _share(verdicts: Sequence[str], emotion: Emotion) -> str:
    return f"{100 * np.mean([verdict == emotion for verdict in verdicts]):.1f}"


def _adopted(networks: str, cfg: RunConfig, workspace: Workspace) -> tuple[ModelBundle, str, float]:
    cfg = cfg.model_copy(update={"preprocess": whole_course(cfg.preprocess)})
    backbone = adopted_backbone(networks)
    classifier = adopted_classifier(backbone, "neutral", cfg)
    found = evaluate_adopted(classifier, backbone, _dataset(cfg, workspace, course=False), cfg, workspace)
    bundle, _ = write_adopted(classifier, backbone, None, cfg, workspace)
    return bundle, str(found.evaluation.mean_recall), found.ms_per_clip


def _trained(cfg: RunConfig, workspace: Workspace) -> tuple[ModelBundle, str, float]:
    """Cross-validate the model of the settings and fit it to all clips, like `ferflow compare --external`."""
    required, model = requirements_of(cfg.train), model_of(cfg.train)
    backbone = load_backbone(cfg.backbone) if required.backbone else None
    dataset = _dataset(cfg, workspace, course=required.course)
    table = training_table(dataset, backbone, cfg.preprocess, workspace, required)
    latency = measure_latency(dataset.usable, dataset.course, workspace, backbone, required)
    how = {"folds": cfg.search.folds, "seed": cfg.search.seed, "fit_seed": cfg.train.seed}
    (entry,) = compare([model], table, inner_share=cfg.train.inner_share, latency=latency, **how).entries
    side = hold_out(table, np.arange(table.n_clips), cfg.train.inner_share, cfg.search.seed, cfg.train.seed)
    facts = ModelFacts(
        model=cfg.train.model, classes=table.classes, preprocess=cfg.preprocess, synthetic=table.synthetic
    )
    folder = Path(tempfile.mkdtemp(dir=workspace.root))
    bundle = write_bundle(folder, Fits(table).fitted(model, side).classifier, backbone, facts)
    return bundle, str(entry.evaluation.mean_recall), entry.ms_per_clip


def _dataset(cfg: RunConfig, workspace: Workspace, *, course: bool) -> Dataset:
    manifest = load_dataset(cfg, workspace)
    rows = keep_usable(store_faces(manifest.clips, cfg.preprocess, cfg.limits, workspace.store), cfg.limits)
    if not course:
        return Dataset.of(manifest, rows)
    whole = store_faces(manifest.clips, course_config(cfg.preprocess), cfg.limits, workspace.store)
    return Dataset.of(manifest, rows, keep_usable(whole, cfg.limits))


if __name__ == "__main__":
    main(*sys.argv[1:])
