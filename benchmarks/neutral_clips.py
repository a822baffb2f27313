"""Clips without an expression at their end: how often they are called happiness when neutral is a class.

`python -m benchmarks.neutral_clips [MANIFEST [MODEL_FOLDER ...]]` plays each clip of a manifest forwards, held at its
first frame, and backwards, so that it ends with its first frame. The adopted networks classify seven emotions; folders
of registered models may be added. Verdicts from which a model abstains are counted apart.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fer_core.clips.manifest import read_manifest
from fer_core.clips.synthetic import synthesize
from fer_core.config import LimitsConfig, RunConfig
from fer_core.emotions import Emotion
from fer_core.errors import WeightsError
from fer_core.experiments.adoption import Relative, adopted_backbone, adopted_classifier, write_adopted
from fer_core.models.adopted import whole_course
from fer_core.models.bundle import ModelBundle, read_bundle
from fer_core.preprocess.pipeline import open_media
from fer_core.scoring.scorer import ClipScorer
from fer_core.workspace import Workspace

SUBJECTS = 4  # number of drawn people
PLAYED = ("forwards", "held at the first frame", "backwards")
ADOPTED: tuple[tuple[str, Relative], ...] = (
    ("fer2013", "none"), ("fer2013", "neutral"), ("face-api", "none"), ("face-api", "neutral"),
)  # fmt: skip


def main(manifest: str | None = None, *folders: str) -> None:
    """Print one row per model: the share of clips called happiness, and the share from which it abstains."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        clips = read_manifest(Path(manifest)) if manifest else synthesize(root / "drawn", SUBJECTS, seed=0)
        played = {play: [written(clip.path, play, root / play / str(i)) for i, clip in enumerate(clips.clips)]
                  for play in PLAYED}  # fmt: skip
        print(f"{len(clips)} clips of {manifest or 'drawn faces'}. Called happiness (abstained), in % of clips:\n")
        print(f"| model | {' | '.join(PLAYED)} |\n| --- |{' ---: |' * len(PLAYED)}")
        for title, bundle in models(root, folders):
            scorer = ClipScorer(bundle, limits=LimitsConfig(), store_root=root / "store")
            print(f"| {title} | {' | '.join(cell(scorer, paths) for paths in played.values())} |", flush=True)


def written(path: Path, play: str, folder: Path) -> Path:
    """Write the frames of a clip, played in another order, as a folder of pictures; return the folder."""
    with open_media(path, LimitsConfig()) as media:
        pictures = [frame.picture for frame in media.frames(lambda index: True) if frame.picture is not None]
    order = {"forwards": pictures, "held at the first frame": pictures[:1] * len(pictures), "backwards": pictures[::-1]}
    folder.mkdir(parents=True)
    for index, picture in enumerate(order[play]):
        cv2.imwrite(str(folder / f"{index:04d}.png"), picture)
    return folder


def models(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, ModelBundle]]:
    """Yield the adopted networks whose weights are here, and the models in folders."""
    config = RunConfig(classes="seven")
    config = config.model_copy(update={"preprocess": whole_course(config.preprocess)})
    for network, relative in ADOPTED:
        try:
            backbone = adopted_backbone(network)
        except WeightsError as exc:
            print(f"{network} is left out: {exc}", file=sys.stderr)
            continue
        classifier = adopted_classifier(backbone, relative, config)
        workspace = Workspace.open(root / f"{network}-{relative}")
        yield f"{network}, relative: {relative}", write_adopted(classifier, backbone, None, config, workspace)[0]
    for folder in folders:
        bundle = read_bundle(Path(folder))
        yield f"{bundle.facts.model}, {len(bundle.classes)} classes", bundle


def cell(scorer: ClipScorer, paths: list[Path]) -> str:
    """Return the share of clips called happiness without abstaining, and the share of abstentions."""
    rows = [scorer.score(path) for path in paths]
    happy = np.mean([row.emotion == Emotion.HAPPINESS and not row.abstained for row in rows])
    return f"{100 * happy:.1f} ({100 * np.mean([row.abstained for row in rows]):.0f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
