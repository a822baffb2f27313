"""Would the verdict survive? The default head, and what might make its verdicts stay, on clips changed in nine ways.

`python -m benchmarks.stress TRAIN.csv SMILES.csv [FOLDER]` prints a row for each remedy: mean recall in five folds by
subject on the first manifest, and the share of the second's clips that a model fitted to the first calls right; then
the per cent of verdicts that stay under each change, of the first manifest and of the second. A second table shows, for
the mean with the mirror image, which is the default, how many of the clips whose verdict falls are below a confidence.

A face is found once for all remedies, in every second of eight frames of a clip. Faces and features are kept in FOLDER
(a temporary one by default), from which a stopped run continues. On ict and london, this takes some ten minutes of one
idle core.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import read_manifest
from fer_core.clips.splits import grouped_folds
from fer_core.config import AugmentConfig, BackboneConfig, LimitsConfig, PreprocessConfig, TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.emotions import SIX, Emotion
from fer_core.evaluation.cross_validation import hold_out
from fer_core.evaluation.metrics import mean_recall
from fer_core.experiments.stability import CHANGES
from fer_core.features.augment import random_view
from fer_core.features.load_backbone import load_backbone
from fer_core.models.base import Fits
from fer_core.models.registry import model_of
from fer_core.models.temperature import fit_temperature
from fer_core.models.verdict import apply_temperature
from fer_core.preprocess.changes import Change, Changed, changed_apex
from fer_core.preprocess.equalize import equalize_by
from fer_core.preprocess.face import FaceFinder, resize
from fer_core.preprocess.landmarks import Landmarks, resolved
from fer_core.preprocess.pipeline import open_media
from fer_core.preprocess.selection import select

SHOWN: tuple[Change | None, ...] = (None, *CHANGES)
MARGIN = 0.45  # of the box, kept around it for other crops
VIEWS = 3  # beside the plain one
CROPS = {  # how a face is cut out: a factor of the cascade's box, or a multiple of the spread of its landmarks
    "box": 1.0, "sc93": 0.93, "sc108": 1.08, "rms": 3.47,
}  # fmt: skip
RAISED = 0.378  # distance from the centre of the landmarks up to that of the box, in spreads; the mean over both sets
Features = dict[str, np.ndarray]  # clip and change -> (2, n, d): of n faces, and of their mirror images
Scores = dict[Change | None, np.ndarray]
HEAD = TrainConfig()
AUGMENTED = TrainConfig(augment=AugmentConfig(views=1 + VIEWS))


def main(train: str, smiles: str, folder: str = "") -> None:
    """Print the table."""
    torch.set_num_threads(1)
    clips, others = (read_manifest(Path(name)).clips for name in (train, smiles))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        find_faces([*clips, *others], place / "rois")
        found = {name: features([*clips, *others], name, place) for name in CROPS}
        views = {name: features([*clips, *others], name, place, views=True) for name in ("box", "rms")}
        crops = {key: np.concatenate([found[name][key] for name in ("box", "sc93", "sc108")]) for key in found["box"]}
        print(f"| | recall | smiles | {' | '.join(str(change).replace('_', ' ') for change in CHANGES)} |")
        print(f"| --- |{' ---: |' * (2 + len(CHANGES))}")
        for name, of, mean, more in (
            ("none", found["box"], False, None),
            ("mean with the mirror image", found["box"], True, None),
            ("stored views", found["box"], False, views["box"]),
            ("mean with the mirror image, and stored views", found["box"], True, views["box"]),
            ("mean of three crops and their mirror images", crops, True, None),
            ("crop by landmarks, eyes level", found["rms"], False, None),
            ("crop by landmarks, eyes level, mean with the mirror image", found["rms"], True, None),
            ("the same, and stored views", found["rms"], True, views["rms"]),
        ):
            scores = scores_of(clips, others, of, mean, more)
            print(f"| {name} | {' | '.join(row(clips, others, *scores))} |", flush=True)
        print("\n| abstains below | answered, % | of the fallen abstain | answered, % | of the fallen abstain |")
        print("| --- |" + " ---: |" * 4)
        print("\n".join(confidence_rows(clips, *scores_of(clips, others, found["box"], True, None))))


def find_faces(clips: Sequence[Clip], folder: Path) -> None:
    """Keep the faces of every clip under every change: pictures with a margin, the box in them, and the landmarks."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = resolved(PreprocessConfig(max_frames=8))
    for number, clip in enumerate(clips):
        for change in SHOWN:
            path = folder / f"{number:03d}_{change or 'plain'}.npz"
            if not path.exists():
                _find(clip, change, cfg, path)


def _find(clip: Clip, change: Change | None, cfg: PreprocessConfig, path: Path) -> None:
    pictures, boxes, points = [], [], []
    with open_media(clip.path, LimitsConfig()) as file:
        media, apex = file, -1 if clip.apex is None else clip.apex
        if change is not None:
            media, apex = Changed(file, change), changed_apex(apex, change)
        n = max(media.n_expected, apex + 1)
        chosen = set(select(n, None if apex < 0 else apex, cfg, media.fps).tolist())
        finder = FaceFinder(cfg.face)
        for frame in media.frames(chosen.__contains__):
            face = finder.find(frame.picture) if frame.index in chosen and frame.picture is not None else None
            if face is None or face.landmarks is None or face.weight < cfg.face.min_weight or not face.is_face:
                continue
            (x, y, width, height), margin = face.box, int(MARGIN * face.box[2])
            assert frame.picture is not None
            wide = cv2.copyMakeBorder(frame.picture, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
            pictures.append(wide[y : y + height + 2 * margin, x : x + width + 2 * margin])
            boxes.append((margin, margin, width, height))
            points.append(face.landmarks.points - np.float32([x - margin, y - margin, 0]))
    named = {f"r{k}": picture for k, picture in enumerate(pictures)}
    np.savez(path, n=len(pictures), boxes=np.array(boxes), pts=np.array(points, np.float32), **named)


def features(clips: Sequence[Clip], crop: str, folder: Path, views: bool = False) -> Features:
    """Return the features of fer2013 for one kind of crop, stored or computed; of views only for unchanged clips."""
    path = folder / "feats" / f"{('viewsr' if crop == 'rms' else 'views') if views else crop}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        network, rng, found = load_backbone(BackboneConfig(mirror="none")), np.random.default_rng(0), {}
        for number in range(len(clips)):
            for change in (None,) if views else SHOWN:
                faces = _faces(folder / "rois" / f"{number:03d}_{change or 'plain'}.npz", crop)
                for shown in [f"v{k}" for k in range(1, VIEWS + 1)] if views else [change or "plain"]:
                    seen = [random_view(face, rng, AugmentConfig()) for face in faces] if views else faces
                    pixels = np.array(seen, np.uint8).reshape(-1, 224, 224)
                    both = (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))
                    found[f"{number:03d}_{shown}"] = np.stack([network.features(faces) for faces in both])
        np.savez(path, **found)
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def _faces(path: Path, crop: str) -> list[np.ndarray]:
    with np.load(path) as kept:
        n, boxes, points = int(kept["n"]), kept["boxes"], kept["pts"]
        places = [k for k in range(n) if k % 2 or n < 3]
        return [_face(kept[f"r{k}"], boxes[k].tolist(), points[k], crop) for k in places]


def _face(picture: np.ndarray, box: Sequence[int], points: np.ndarray, crop: str) -> np.ndarray:
    x, y, width, height = box
    if crop == "box":
        face = np.ascontiguousarray(picture[y : y + height, x : x + width])
    elif crop == "rms":
        angle, centre = Landmarks(points, 1.0).roll, points[:, :2].mean(axis=0)
        spread = math.sqrt(((points[:, :2] - centre) ** 2).sum(axis=1).mean())
        up = spread * np.array([math.sin(angle), -math.cos(angle)])
        face = _square(picture, centre + RAISED * up, CROPS[crop] * spread, angle)
    else:
        face = _square(picture, np.array([x + width / 2 - 0.5, y + height / 2 - 0.5]), CROPS[crop] * width, 0.0)
    return resize(equalize_by(face, "thesis"), 224)


def _square(picture: np.ndarray, centre: np.ndarray, side: float, angle: float) -> np.ndarray:
    """Return a rotated square of a picture, at its own resolution."""
    out = 224 * max(1, int(side / 224 + 0.5)) if side > 224 else max(round(side), 8)
    cos, sin, half = side / out * math.cos(angle), side / out * math.sin(angle), out / 2 - 0.5
    there = np.array([[cos, -sin, centre[0] - half * (cos - sin)], [sin, cos, centre[1] - half * (sin + cos)]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, there, (out, out), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def scores_of(
    clips: Sequence[Clip], others: Sequence[Clip], found: Features, mean: bool, views: Features | None
) -> tuple[Scores, Scores]:
    """Return (C, 6) scores for each change: of the first manifest's clips out of fold, of the second's by another fit.

    A clip without a face has NaN.
    """
    model = model_of(AUGMENTED if views else HEAD)
    ours = _tables(clips, 0, found, mean, views)
    theirs = _tables(others, len(clips), found, mean, None)
    plain, fits = ours[None], Fits(ours[None])
    given = {change: np.full((len(clips), len(SIX)), np.nan) for change in SHOWN}
    for train, held_out in grouped_folds(plain.subjects, plain.labels, 5, 0):
        fitted = fits.fitted(model, hold_out(plain, train, HEAD.inner_share, 0, 0)).classifier
        held = {plain.clip_ids[clip] for clip in held_out}
        for change, table in ours.items():
            there = np.array([place for place, clip in enumerate(table.clip_ids) if clip in held])
            given[change][[plain.clip_ids.index(table.clip_ids[p]) for p in there]] = fitted.scores(table, there)
    fitted = fits.fitted(model, hold_out(plain, np.arange(plain.n_clips), HEAD.inner_share, 0, 0)).classifier
    smiles = {change: np.full((len(others), len(SIX)), np.nan) for change in SHOWN}
    for change, table in theirs.items():
        places = [theirs[None].clip_ids.index(clip) for clip in table.clip_ids]
        smiles[change][places] = fitted.scores(table, np.arange(table.n_clips))
    return given, smiles


def row(clips: Sequence[Clip], others: Sequence[Clip], given: Scores, smiles: Scores) -> list[str]:
    """Return the cells of a remedy: recall, smiles called right, and for each change what stays on both manifests."""
    recall = mean_recall(_verdicts(given[None]), _labels(clips), len(SIX))
    right = float((_verdicts(smiles[None]) == _labels(others)).mean())
    stays = [
        ", ".join(f"{100 * (_verdicts(of[change]) == _verdicts(of[None])).mean():.0f}" for of in (given, smiles))
        for change in CHANGES
    ]
    return [f"{100 * recall:.1f}", f"{100 * right:.1f}", *stays]


def confidence_rows(clips: Sequence[Clip], given: Scores, smiles: Scores) -> list[str]:
    """Return rows of a table: below which confidence is abstained, and what is answered and abstained on both sets."""
    temperature, rows = fit_temperature(given[None], _labels(clips)), []
    for least in (0.0, 0.5, 0.6, 0.7, 0.8):
        cells = []
        for of in (given, smiles):
            answered = [
                apply_temperature(np.nan_to_num(of[change], nan=1 / len(SIX)), temperature).max(axis=1) >= least
                for change in SHOWN
            ]
            fallen = np.array([_verdicts(of[change]) != _verdicts(of[None]) for change in CHANGES])
            cells.append((100 * answered[0].mean(), 100 * (1 - np.array(answered[1:])[fallen].mean()), fallen.sum()))
        shown = " | ".join(f"{said:.0f} | {silent:.0f} % of {n}" for said, silent, n in cells)
        rows.append(f"| {least:g} | {shown} |")
    return rows


def _verdicts(scores: np.ndarray) -> np.ndarray:
    """Return (C,) classes; -1 without scores."""
    return np.where(np.isnan(scores[:, 0]), -1, np.nan_to_num(scores).argmax(axis=1))


def _labels(clips: Sequence[Clip]) -> np.ndarray:
    return np.array([SIX.index(Emotion(clip.emotion)) for clip in clips])


def _tables(
    clips: Sequence[Clip], first: int, found: Features, mean: bool, views: Features | None
) -> Mapping[Change | None, FeatureTable]:
    def rows(of: Features, number: int, shown: str) -> np.ndarray:
        both = of[f"{first + number:03d}_{shown}"]
        return both.astype(np.float32).mean(axis=0) if mean else both[0]

    tables = {}
    for change in SHOWN:
        parts = [rows(found, number, change or "plain") for number in range(len(clips))]
        there = [number for number, part in enumerate(parts) if len(part)]
        extra = range(1, VIEWS + 1) if views and change is None else ()
        tables[change] = FeatureTable(
            key=str(change),
            features=_half([parts[number] for number in there]),
            offsets=np.concatenate([[0], np.cumsum([len(parts[number]) for number in there])]),
            labels=np.array([SIX.index(Emotion(clips[number].emotion)) for number in there]),
            clip_ids=tuple(clips[number].id for number in there),
            subjects=tuple(clips[number].subject for number in there),
            datasets=tuple(clips[number].dataset for number in there),
            views=tuple(_half([rows(views or {}, number, f"v{k}") for number in there]) for k in extra),
        )
    return tables


def _half(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float16))


if __name__ == "__main__":
    main(*sys.argv[1:])
