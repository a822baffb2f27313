"""Films of a batch: one per clip with a verdict, named in its row and linked in the report."""

from __future__ import annotations

import av
import numpy as np
import pandas as pd
import pytest

from fer_core.config import ScoreConfig
from fer_core.reports.scores import report_html
from fer_core.scoring.batch import score_batch
from fer_core.scoring.films import film_of
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from tests.scoring.conftest import LIMITS


@pytest.fixture(scope="module")
def filming(bundle, store_root) -> ClipScorer:
    return ClipScorer(bundle, ScoreConfig(video=True), limits=LIMITS, store_root=store_root, name="face-emotion")


@pytest.fixture(scope="module")
def batch(filming, videos, store_root, tmp_path_factory):
    paths = [videos / name for name in ("good.mp4", "frames", "plain.mp4", "page.mp4")]
    return score_batch(filming, collect(paths), tmp_path_factory.mktemp("films"), store_root)


def test_every_clip_with_a_verdict_has_a_film(batch):
    table = pd.read_parquet(batch.out / "verdicts.parquet")
    assert (table["video"] != "").tolist() == table["emotion"].notna().tolist() == [True, True, False, False]
    files = sorted(path.name for path in (batch.out / "videos").iterdir())
    assert sorted(table["video"][:2]) == [f"videos/{name}" for name in files]
    with av.open(str(batch.out / table["video"][0])) as film:
        assert sum(1 for _ in film.decode(video=0)) == 12


def test_the_report_links_each_film(batch, filming):
    html = report_html(batch.rows, filming)
    assert [html.count(f'href="{row.film}"') for row in batch.rows if row.film] == [1, 1]
    assert html.count("Film with the verdicts") == 2


def test_a_film_shows_the_frames_and_scores_of_its_row(batch, filming):
    row = batch.rows[0]
    film = film_of([row], filming)
    (person,) = film.people
    assert person.frames == row.ledger.frame.tolist() and person.boxes == row.ledger.box.tolist()
    assert person.label == row.frame_scores.argmax(axis=1).tolist()
    assert np.allclose(person.confidence, row.frame_scores.max(axis=1))
    assert film.note == "face-emotion, trained on synthetic faces" and film.located


def test_films_are_written_once_and_those_of_other_clips_are_removed(batch, filming, videos, store_root):
    before = {path.name: path.stat().st_mtime_ns for path in (batch.out / "videos").iterdir()}
    (batch.out / "videos" / "older.mp4").touch()
    again = score_batch(filming, collect([videos / "good.mp4"]), batch.out, store_root)
    (name,) = (path.name for path in (batch.out / "videos").iterdir())
    assert again.rows[0].film == f"videos/{name}"
    assert (batch.out / "videos" / name).stat().st_mtime_ns == before[name]
