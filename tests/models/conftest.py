"""Moving patterns for faces: each person a smooth texture, each emotion a way it is bent, from not at all to wholly."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from fer_core.dataset.table import FeatureTable
from fer_core.emotions import SIX
from fer_core.features.descriptors.catalogue import DESCRIPTORS, describe
from fer_core.features.descriptors.descriptor import COURSE_FRAMES
from fer_core.preprocess.landmarks import N_POINTS

SUBJECTS, FRAMES, SIZE = 12, 4, 112
_FEATURES = 14  # across and down


def smooth(rng: np.random.Generator, coarse: int, size: int) -> np.ndarray:
    """(size, size) noise as smooth as `coarse` knots across, mean 0 and standard deviation 1."""
    field = cv2.resize(rng.normal(size=(coarse, coarse)), (size, size), interpolation=cv2.INTER_CUBIC)
    normal: np.ndarray = (field - field.mean()) / field.std()
    return normal


def drawn_courses() -> list[np.ndarray]:
    """(16, 112, 112) uint8 faces of SUBJECTS x SIX clips, subject by subject."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))
    common = smooth(rng, 9, SIZE)
    ways = [(smooth(rng, 5, SIZE), smooth(rng, 5, SIZE)) for _ in SIX]
    courses = []
    for _ in range(SUBJECTS):
        person = 128 + 34 * common + 16 * smooth(rng, 14, SIZE)
        for right, down in ways:
            strength, jitter = rng.uniform(2.5, 4.5), rng.normal(0, 0.4, (COURSE_FRAMES, 2))
            frames = []
            for share, (dx, dy) in zip(np.linspace(0, 1, COURSE_FRAMES), jitter, strict=True):
                bend = np.float32(share * strength)
                moved = cv2.remap(
                    person.astype(np.float32), (x - bend * right + dx).astype(np.float32),
                    (y - bend * down + dy).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
                )  # fmt: skip
                frames.append(np.clip(moved + rng.normal(0, 4, moved.shape), 0, 255).astype(np.uint8))
            courses.append(np.stack(frames))
    return courses


def drawn_points() -> list[np.ndarray]:
    """(16, 468, 3) landmarks of as many clips: each person a cloud of points, each emotion a way of their own."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(N_POINTS, 3))
    ways = rng.normal(0, 0.03, (len(SIX), N_POINTS, 3))
    courses = []
    for _ in range(SUBJECTS):
        person, own = cloud + rng.normal(0, 0.1, cloud.shape), rng.normal(0, 0.03, cloud.shape)
        for way in ways:
            shares = np.linspace(0, 1, COURSE_FRAMES)[:, None, None]
            courses.append(
                person + shares * rng.uniform(0.4, 1.2) * (way + own) + rng.normal(0, 0.01, (16, N_POINTS, 3))
            )
    return courses


def table_of(courses: list[np.ndarray]) -> FeatureTable:
    """Small pictures of the last faces for features, each less its mean; every descriptor."""
    faces = [course[-FRAMES:] for course in courses]
    rows = [
        cv2.resize(face, (_FEATURES, _FEATURES), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        for clip in faces
        for face in clip
    ]
    features = np.stack(rows)
    features -= features.mean(axis=1, keepdims=True)
    n = len(faces)
    return FeatureTable(
        key="moving-patterns",
        features=torch.from_numpy(features).half(),
        offsets=np.concatenate([[0], np.cumsum([len(clip) for clip in faces])]),
        labels=np.tile(np.arange(len(SIX)), n // len(SIX)),
        clip_ids=tuple(f"c{i:03d}" for i in range(n)),
        subjects=tuple(f"drawn:s{i // len(SIX):02d}" for i in range(n)),
        datasets=("drawn-synthetic",) * n,
        described={
            name: np.concatenate(
                [
                    describe([name], {"expression": f, "course": c, "points": p})[name]
                    for f, c, p in zip(faces, courses, drawn_points(), strict=True)
                ]
            )
            for name in DESCRIPTORS
        },
        part_keys={part: part for part in ("people", "features", *DESCRIPTORS)},
    )


@pytest.fixture(scope="session")
def drawn() -> FeatureTable:
    """All clips of all subjects; features and `expression` faces of the last frames only."""
    return table_of(drawn_courses())
