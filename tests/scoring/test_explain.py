from __future__ import annotations

import cv2
import numpy as np
import pytest

from fer_core.config import ScoreConfig
from fer_core.reports.scores import report_html
from fer_core.scoring.batch import score_batch
from fer_core.scoring.explain import decisive, margins
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from tests.scoring.conftest import LIMITS


def drawn_scores(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(6), size=n)


def test_margins_add_up_to_the_margin_of_the_mean():
    scores = drawn_scores(9)
    mean = np.sort(scores.mean(axis=0))
    winner = int(scores.mean(axis=0).argmax())
    assert margins(scores, winner).mean() == pytest.approx(mean[-1] - mean[-2])


def test_decisive_frames_are_those_that_add_most_in_the_order_of_time():
    scores = drawn_scores(9)
    winner = int(scores.mean(axis=0).argmax())
    chosen = decisive(scores, winner, 3)
    assert list(chosen) == sorted(chosen) and len(chosen) == 3
    added = margins(scores, winner)
    assert added[chosen].min() >= np.delete(added, chosen).max()
    assert len(decisive(scores[:2], winner, 3)) == 2 and len(decisive(scores, winner, 0)) == 0


@pytest.fixture(scope="module")
def explained(bundle, videos, tmp_path_factory):
    """A folder scored twice with explanations, the second time from the store."""
    scorer = ClipScorer(bundle, ScoreConfig(explain=2), limits=LIMITS)
    store, out = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("out")
    items = collect([videos / "good.mp4"])
    first = score_batch(scorer, items, out, store)
    return scorer, first, score_batch(scorer, items, out, store)


def test_explaining_changes_no_verdict(explained, scorer, videos):
    row, plain = explained[1].rows[0], scorer.score(videos / "good.mp4")
    assert np.array_equal(row.probabilities, plain.probabilities)
    assert not plain.explanation and not plain.decisive
    assert explained[0].key("d") != scorer.key("d")


def test_decisive_faces_are_on_disk_in_the_table_and_on_the_page(explained):
    scorer, first, again = explained
    row = first.rows[0]
    (file,) = (first.out / "explanations").iterdir()
    assert file.read_bytes() == row.explanation == again.rows[0].explanation
    assert again.remembered == 1 and again.rows[0].decisive == row.decisive
    picture = cv2.imread(str(file))
    assert picture.shape == (224, 448, 3)
    assert len(np.unique(picture.reshape(-1, 3).astype(int) @ [1, -2, 1])) > 10, "no colour over the grey faces"
    assert f"explanations/{file.name}" in (first.out / "verdicts.csv").read_text()
    html = report_html(first.rows, scorer)
    assert html.count("<img") == 2 and html.count('class="marked"') == 2 and "Grad-CAM" in html
