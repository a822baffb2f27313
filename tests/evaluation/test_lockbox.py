"""The lockbox: one look per candidate, every look counted."""

from __future__ import annotations

import pytest

from fer_core.errors import DataError, StoreError
from fer_core.evaluation.lockbox import open_lockbox, refuse_seen


class Test:
    """Counts how often it was scored."""

    __test__ = False

    def __init__(self, value):
        self.value, self.scored = value, 0

    def __call__(self):
        self.scored += 1
        return {"mean_scores": {"mean_recall": self.value}}


def test_a_candidate_is_scored_once_and_its_number_is_read_back(tmp_path):
    test = Test(0.8)
    first = open_lockbox(tmp_path, "t", "a", test)
    second = open_lockbox(tmp_path, "t", "a", Test(0.9))
    assert test.scored == 1 and not first.again and second.again
    assert second.evaluations == first.evaluations


def test_openings_are_counted_over_all_candidates_of_a_test_set(tmp_path):
    numbers = [open_lockbox(tmp_path, "t", c, Test(0.5)).number for c in "abca"]
    assert numbers == [1, 2, 3, 1]
    assert open_lockbox(tmp_path, "t", "a", Test(0)).openings == 3
    assert open_lockbox(tmp_path, "another", "a", Test(0)).openings == 1


def test_a_failed_evaluation_is_no_opening(tmp_path):
    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_lockbox(tmp_path, "t", "a", fails)
    assert open_lockbox(tmp_path, "t", "b", Test(0.5)).openings == 1


def test_a_damaged_record_is_not_started_afresh(tmp_path):
    open_lockbox(tmp_path, "t", "a", Test(0.5))
    (tmp_path / "t.json").write_text("{half")
    with pytest.raises(StoreError, match="restore it from a backup to keep the count"):
        open_lockbox(tmp_path, "t", "b", Test(0.5))


def test_the_box_stays_shut_for_who_has_seen_its_content():
    tested = {"aa": "subject 'x:1'", "bb": "subject 'x:2'", "cc": "clip 'x:2/fear'"}
    refuse_seen(tested, {"dd", "ee"})
    with pytest.raises(DataError, match=r"1 of 3 people and recordings .* the first is subject 'x:2'"):
        refuse_seen(tested, {"bb", "dd"})
