from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_core.errors import DataError
from fer_core.scoring.batch import score_batch
from fer_core.scoring.flips import Flip, flips_of, items_of_batch
from fer_core.scoring.inputs import collect


def called(row, emotion, label=None, confidence=0.6):
    """The row with another verdict."""
    scores = np.full(6, (1 - confidence) / 5)
    scores[row.classes.index(emotion)] = confidence
    return replace(row, emotion=emotion, probabilities=scores, label=label)


@pytest.fixture(scope="module")
def row(scorer, videos):
    return scorer.score(videos / "good.mp4")


def test_only_clips_with_another_verdict_flip_the_most_confident_first(row):
    before = [called(row, "fear"), called(row, "anger"), called(row, "anger"), replace(row, emotion=None)]
    after = [called(row, "fear"), called(row, "fear", confidence=0.5), called(row, "fear", confidence=0.9),
             called(row, "anger", confidence=0.3)]  # fmt: skip
    found = flips_of(before, after)
    assert found.clips == 4 and [f.after.confidence for f in found.flips] == pytest.approx([0.9, 0.5, 0.3])
    assert found.ways == {("anger", "fear"): 2, ("none", "anger"): 1}


@pytest.mark.parametrize(
    ("label", "outcome"), [(None, ""), ("fear", "mended"), ("anger", "broken"), ("disgust", "both wrong")]
)
def test_outcome_is_by_the_label(row, label, outcome):
    assert Flip(called(row, "anger", label), called(row, "fear", label)).outcome == outcome


def test_clips_of_a_scored_batch_are_found_again_by_their_paths(scorer, videos, tmp_path):
    given = collect([videos / "good.mp4", videos / "plain.mp4"])
    score_batch(scorer, given, tmp_path / "out", tmp_path / "store")
    again = items_of_batch(tmp_path / "out")
    assert [(i.clip.id, i.clip.path) for i in again] == [(i.clip.id, i.clip.path) for i in given]
    assert [i.clip.id for i in items_of_batch(videos / "good.mp4")] == [str(videos / "good.mp4")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "verdicts.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"verdicts.parquet cannot be read .*score the clips again"):
        items_of_batch(tmp_path / "other")
