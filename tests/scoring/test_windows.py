"""Verdicts over time: what a window says is what its faces say; each face is computed once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from fer_core.config import ScoreConfig, WindowsConfig
from fer_core.errors import ClipStatus
from fer_core.models.verdict import apply_temperature, judge
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.windows import CHUNK, score_windows, spans
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video
from tests.scoring.conftest import LIMITS

CFG = WindowsConfig(length_s=0.8, step_s=0.4, frames_per_s=5)


@pytest.fixture(scope="module")
def timed(bundle, store_root) -> ClipScorer:
    return ClipScorer(bundle, ScoreConfig(windows=CFG), limits=LIMITS, store_root=store_root)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """3 s at 25 frames per s: a face, then a second without one, then the face again."""
    frames = [*face_frames(25), *plain_frames(25), *face_frames(25)]
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames)


@pytest.fixture(scope="module")
def row(timed, film):
    return timed.score(film)


@pytest.mark.parametrize(("duration_s", "length_s", "step_s"), [(7.3, 2, 1), (2, 2, 0), (0.5, 2, 1), (60.04, 2, 0.5)])
def test_windows_cover_a_clip_without_gaps(duration_s, length_s, step_s):
    cfg = WindowsConfig(length_s=length_s, step_s=step_s)
    bounds = spans(duration_s, cfg)
    assert bounds[0, 0] == 0 and bounds[-1, 1] == pytest.approx(
        max(duration_s, cfg.step) if len(bounds) == 1 else duration_s
    )
    assert (np.diff(bounds[:, 0]) == pytest.approx(cfg.step)) if len(bounds) > 1 else True
    assert (bounds[1:, 0] <= bounds[:-1, 1]).all() and (bounds[:, 1] - bounds[:, 0] <= length_s + 1e-9).all()


def test_a_windows_verdict_is_that_of_its_own_faces(timed, film, row):
    found = timed.bundle.backbone
    windows = row.windows
    assert len(windows) == 7 and windows.end_s[-1] == pytest.approx(3.0)
    faces = next(iter(_faces(timed, film)))
    used = faces.ledger.used
    pixels = dict(zip(np.flatnonzero(used).tolist(), faces.pixels, strict=True))
    for start, end, shown in zip(windows.start_s, windows.end_s, windows.probabilities, strict=True):
        times = faces.ledger.time_s
        own = [pixels[place] for place in np.flatnonzero((times >= start) & (times < end) & used).tolist()]
        if not own:
            assert np.isnan(shown).all()
            continue
        scores = timed.bundle.classifier.frames_in(_inputs(found.features(np.stack(own))), 0).scores
        assert np.allclose(shown, apply_temperature(judge(scores, timed.rule).scores, timed.temperature), atol=1e-6)


def test_five_frames_a_second_are_looked_at_and_a_window_without_a_face_has_no_verdict(row):
    windows = row.windows
    assert (windows.n_selected[:-1] == 4).all()
    assert windows.index.tolist()[3] == -1 and windows.abstained[3] and windows.n_used[3] == 0
    assert (windows.n_used[[0, 6]] > 0).all() and not np.isnan(windows.confidence[[0, 6]]).any()
    assert row.status is ClipStatus.OK and row.n_frames == 75 and 6 <= row.n_selected <= 9


def test_tables_hold_the_windows_and_a_stored_row_gives_the_same(timed, film, row, store_root, tmp_path):
    first = score_batch(timed, collect([film]), tmp_path / "a", store_root)
    again = score_batch(timed, collect([film]), tmp_path / "b", store_root)
    assert again.remembered == 1
    table = pd.read_parquet(first.out / "windows.parquet")
    pd.testing.assert_frame_equal(table, pd.read_parquet(again.out / "windows.parquet"))
    assert table["start_s"].tolist() == row.windows.start_s.tolist() and set(table["person"]) == {1}
    assert table["emotion"].isna().tolist() == (row.windows.index < 0).tolist()
    text = pd.read_csv(first.out / "windows.csv")
    assert np.allclose(text["confidence"], row.windows.confidence, rtol=1e-5, equal_nan=True)


def test_windows_of_an_older_batch_do_not_stay(scorer, timed, film, store_root, tmp_path):
    score_batch(timed, collect([film]), tmp_path, store_root)
    score_batch(scorer, collect([film]), tmp_path, store_root)
    assert not list(tmp_path.glob("windows.*"))


def test_a_folder_of_frames_says_that_it_has_no_times(timed, tmp_path):
    row = timed.score(write_folder(tmp_path / "frames", face_frames(6)))
    assert row.windows is None and row.emotion and row.reason == "it has no times, so it has no windows"


def test_each_face_is_computed_once_and_only_what_a_window_needs_is_kept():
    """Windows that overlap by half, over more faces than a chunk; each face's feature is its number."""
    n = 5 * CHUNK
    pixels = np.arange(n, dtype=np.uint32).view(np.uint8).reshape(n, 2, 2)
    ledger = Ledger(
        np.arange(n), np.arange(n) / 25, (FrameStatus.USED,) * n, np.ones((n, 4), int), np.ones(n)
    )  # fmt: skip
    computed, seen = [], []

    def features(faces: np.ndarray) -> np.ndarray:
        numbers = faces.reshape(len(faces), 4).copy().view(np.uint32)
        computed.extend(numbers[:, 0].tolist())
        return numbers

    def shown(faces: np.ndarray, points: np.ndarray, rows: np.ndarray) -> np.ndarray:
        assert not len(points) and (faces.reshape(len(faces), 4).copy().view(np.uint32) == rows).all()
        seen.append(rows[:, 0].tolist())
        return np.array([0.7, 0.3])

    faces = Faces("k", "d", pixels, ledger, n, duration_s=n / 25)
    windows = score_windows(faces, WindowsConfig(length_s=2, step_s=1), features, shown, 2, 0.5)
    assert computed == list(range(n)) and {number for window in seen for number in window} == set(range(n))
    assert seen[1] == list(range(25, 75)) and not windows.abstained.any()


def test_settings_that_leave_gaps_or_hold_no_frame_are_refused():
    with pytest.raises(ValidationError, match="leaves gaps"):
        WindowsConfig(length_s=2, step_s=3)
    with pytest.raises(ValidationError, match="has no frame at frames_per_s=5; raise one of them"):
        WindowsConfig(length_s=0.1)


def _faces(scorer, film):
    from fer_core.preprocess.pipeline import preprocess
    from tests.scoring.conftest import LIMITS

    yield preprocess(collect([film])[0].clip, scorer.preprocess, LIMITS)


def _inputs(features):
    import torch

    from fer_core.features.inputs import ClipInputs

    return ClipInputs(features=torch.from_numpy(features), offsets=np.array([0, len(features)]))
