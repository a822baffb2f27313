"""Every face of a clip is followed, with a row per person; by default the main face, which need not come first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fer_core.clips.clip import Clip
from fer_core.clips.synthetic import draw_clip
from fer_core.config import FaceConfig, PreprocessConfig, ScoreConfig
from fer_core.emotions import Emotion
from fer_core.errors import ClipStatus, ConfigError
from fer_core.reports.scores import report_html
from fer_core.scoring.batch import score_batch
from fer_core.scoring.films import film_of
from fer_core.scoring.inputs import collect, named
from fer_core.scoring.scorer import ClipScorer
from tests.preprocess.films import write_video
from tests.saved_models import small_bundle
from tests.scoring.conftest import LIMITS

N = 14
HEIGHT, WIDTH = 240, 200  # of each half


def drawn(subject: int, emotion: Emotion, height: int = HEIGHT) -> list[np.ndarray]:
    """N grey pictures of a drawn person, WIDTH wide, at the bottom of a picture of HEIGHT."""
    pictures = []
    for frame, _ in zip(draw_clip(5, subject, emotion), range(N), strict=False):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        scale = height / len(grey)
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        left = max(0, (small.shape[1] - WIDTH) // 2)
        canvas = np.full((HEIGHT, WIDTH), 60, np.uint8)
        shown = small[:, left : left + WIDTH]
        canvas[HEIGHT - len(shown) :, : shown.shape[1]] = shown
        pictures.append(canvas)
    return pictures


def beside(left: list[np.ndarray], right: list[np.ndarray]) -> list[np.ndarray]:
    return [np.hstack(pair) for pair in zip(left, right, strict=True)]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """`pair`: two people; `cut`: one, then the other; `late`: a small one first, then a large one beside it."""
    root = tmp_path_factory.mktemp("people")
    one, two = drawn(1, Emotion.HAPPINESS), drawn(3, Emotion.SURPRISE)
    nobody = [np.full((HEIGHT, WIDTH), 60, np.uint8)] * N
    write_video(root / "pair.mp4", beside(one, two))
    write_video(root / "cut.mp4", [*beside(one, nobody), *beside(nobody, two)])
    small = drawn(1, Emotion.HAPPINESS, 150)
    write_video(root / "late.mp4", [*beside(small, nobody)[:4], *beside(small, two)])
    write_video(root / "one.mp4", one)
    return root


@pytest.fixture(scope="module")
def everyone(bundle, store_root) -> ClipScorer:
    return ClipScorer(bundle, ScoreConfig(faces="all"), limits=LIMITS, store_root=store_root)


def people(scorer: ClipScorer, path: Path):
    return next(scorer.score_people([named(str(path))]))


def halves(row) -> set[str]:
    """The halves of the picture in which the faces of a row are."""
    middle = row.looked_at.box[row.looked_at.used]
    return {"left" if x + width / 2 < WIDTH else "right" for x, _, width, _ in middle.tolist()}


def test_two_people_have_a_row_each_from_left_to_right(everyone, films):
    rows = people(everyone, films / "pair.mp4")
    assert [row.person for row in rows] == [1, 2] and [halves(row) for row in rows] == [{"left"}, {"right"}]
    assert [row.status for row in rows] == [ClipStatus.OK] * 2
    assert all(row.n_frames == N and len(row.looked_at) == N for row in rows)
    assert not np.allclose(rows[0].probabilities, rows[1].probabilities)


def test_the_verdict_of_a_person_is_the_one_that_the_person_has_as_main_face(everyone, scorer, films):
    rows, main = people(everyone, films / "pair.mp4"), scorer.score(films / "pair.mp4")
    (same,) = [row for row in rows if np.array_equal(row.ledger.box, main.ledger.box)]
    assert np.array_equal(same.probabilities, main.probabilities) and same.emotion == main.emotion


def test_a_cut_ends_a_person(everyone, films):
    first, second = people(everyone, films / "cut.mp4")
    assert halves(first) == {"left"} and halves(second) == {"right"}
    assert first.looked_at.frame.tolist() == list(range(N))
    assert second.looked_at.frame.tolist() == list(range(N, 2 * N))
    assert not first.abstained or first.status is ClipStatus.OK  # absence after the cut does not count against it


def test_the_main_face_is_the_larger_one_and_not_the_first(scorer, everyone, films):
    main = scorer.score(films / "late.mp4")
    assert "several_faces" in main.flags and (main.ledger.box[main.ledger.used][:, 0] > WIDTH / 2).all()
    small, large = people(everyone, films / "late.mp4")
    assert halves(small) == {"left"} and halves(large) == {"right"}
    assert small.looked_at.frame[0] == 0 and large.looked_at.frame[0] == 4


def test_tables_films_and_report_name_the_person(bundle, films, store_root, tmp_path):
    cfg = ScoreConfig(faces="all", video=True, windows={"length_s": 0.28, "frames_per_s": 0})
    scorer = ClipScorer(bundle, cfg, limits=LIMITS, store_root=store_root)
    batch = score_batch(scorer, collect([films / "pair.mp4", films / "one.mp4"]), tmp_path, store_root)
    table = pd.read_parquet(tmp_path / "verdicts.parquet")
    assert table["person"].tolist() == [1, 2, 1] and table["video"].nunique() == 2
    windows = pd.read_csv(tmp_path / "windows.csv")
    assert windows.groupby(["clip", "person"]).size().tolist() == [2, 2, 2]
    frames = pd.read_parquet(tmp_path / "frames.parquet")
    assert frames.groupby("person").size().tolist() == [12, 6]
    assert [person.number for person in film_of(batch.rows[:2], scorer).people] == [1, 2]
    assert report_html(batch.rows, scorer).count("person 2") == 1
    again = score_batch(scorer, collect([films / "pair.mp4", films / "one.mp4"]), tmp_path / "again", store_root)
    assert again.remembered == 2
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "again" / "verdicts.parquet"))


def test_a_label_is_kept_only_where_it_is_clear_whose_it_is(everyone, films, store_root, tmp_path):
    lines = ["clip,path,subject,label,group_sex", "p,pair.mp4,s1,fear,f", "o,one.mp4,s2,fear,m", ""]
    (films / "clips.csv").write_text("\n".join(lines))
    for out in ("first", "again"):  # scored, then remembered
        table = pd.read_parquet(
            score_batch(everyone, collect([films / "clips.csv"]), tmp_path / out, store_root).out / "verdicts.parquet"
        )
        assert table["clip"].tolist() == ["p", "p", "o"]
        for column, value in {"label": "fear", "subject": "s2", "group_sex": "m"}.items():
            assert table[column].isna().tolist() == [True, True, False] and table[column][2] == value
        assert table["seen_in_training"].isna().tolist() == [True, True, False]


def test_a_clip_without_a_face_has_one_row(everyone, videos):
    (row,) = people(everyone, videos / "plain.mp4")
    assert row.status is ClipStatus.NO_FACE and row.person == 1


def test_a_model_of_whole_frames_cannot_follow_faces(tmp_path):
    whole = small_bundle(tmp_path, preprocess=PreprocessConfig(face=FaceConfig(detector="none")))
    with pytest.raises(ConfigError, match="faces=all needs a face detector"):
        ClipScorer(whole, ScoreConfig(faces="all"))


def test_a_film_of_one_person_scores_the_same_with_all_faces(everyone, scorer, films):
    (row,), alone = people(everyone, films / "one.mp4"), scorer.score(Clip(id="one", path=films / "one.mp4"))
    assert np.array_equal(row.probabilities, alone.probabilities)
    assert replace(row, clip="").reason == alone.reason
