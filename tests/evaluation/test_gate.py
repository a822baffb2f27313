from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fer_core.config import PromoteConfig
from fer_core.emotions import SEVEN, SIX
from fer_core.errors import DataError
from fer_core.evaluation.gate import Adopted, OutOfFoldRecord, beside_adopted, gate


def record_of(right: float, seed: int = 0, people: int = 30, first: int = 0, fingerprint: str = "f") -> OutOfFoldRecord:
    """Clips of `people` subjects from number `first` on, six each, a share `right` of them judged right."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(6), people)
    verdicts = np.where(rng.random(6 * people) < right, labels, (labels + 1) % 6)
    subjects = [f"s{first + i // 6}" for i in range(6 * people)]
    return OutOfFoldRecord(
        fingerprint=fingerprint,
        classes=SIX,
        clips=tuple(f"{s}-{label}" for s, label in zip(subjects, labels, strict=True)),
        labels=tuple(labels.tolist()),
        subjects=tuple(subjects),
        verdicts=tuple(verdicts.tolist()),
        calibration_error=0.04,
        ms_per_clip=2.0,
    )


def test_first_champion_passes_floors_only():
    got = gate(record_of(0.5), None, PromoteConfig())
    assert got.passed and got.difference is None
    assert "no champion" in got.compared


@pytest.mark.parametrize(
    ("cfg", "check"),
    [
        ({"min_mean_recall": 0.9}, "mean recall"),
        ({"min_class_recall": 0.9}, "weakest class"),
        ({"max_calibration_error": 0.01}, "calibration error"),
        ({"max_ms_per_clip": 1.0}, "time per clip"),
    ],
)
def test_each_floor_can_fail_and_says_both_numbers(cfg, check):
    got = gate(record_of(0.7), None, PromoteConfig(**cfg))
    assert not got.passed
    (failed,) = [c for c in got.checks if not c.passed]
    assert failed.name == check and failed.had in got.reason and failed.needs in got.reason


def test_verdicts_must_stay_under_changes_where_that_is_asked_for():
    cfg = PromoteConfig(min_stays=0.9)
    assert gate(record_of(0.7), None, cfg, 0.95).passed and gate(record_of(0.7), None, PromoteConfig(), 0.1).passed
    assert "verdicts that stay: 83.3 %, needs 90.0 % under each change" in gate(record_of(0.7), None, cfg, 0.833).reason
    assert "verdicts that stay: not measured: ferflow evaluate --stress" in gate(record_of(0.7), None, cfg).reason


def test_a_model_that_always_says_the_same_is_not_promoted():
    same = replace(record_of(0.5), verdicts=(4,) * 180)
    got = gate(same, None, PromoteConfig())
    assert [c.name for c in got.checks if not c.passed] == ["above chance", "weakest class"]
    assert "above chance: 16.7 [16.7, 16.7] %, needs an interval above 16.7 %" in got.reason
    assert "weakest class: anger 0.0 %, needs more than 0 %" in got.reason


def test_a_model_that_never_finds_one_class_is_not_promoted_however_good_it_is_at_the_others():
    labels = np.array(record_of(1.0).labels)
    blind = replace(record_of(1.0), verdicts=tuple(np.where(labels == 2, 5, labels).tolist()))
    failed = [c for c in gate(blind, None, PromoteConfig()).checks if not c.passed]
    assert [(c.name, c.had) for c in failed] == [("weakest class", f"{SIX[2]} 0.0 %")]


def test_a_model_at_chance_is_not_promoted_and_one_above_it_is():
    assert not gate(record_of(1 / 6), None, PromoteConfig()).passed
    assert gate(record_of(0.35), None, PromoteConfig()).passed


def test_unknown_time_does_not_pass_a_budget():
    assert not gate(replace(record_of(0.7), ms_per_clip=float("nan")), None, PromoteConfig(max_ms_per_clip=10)).passed


def test_better_candidate_passes_and_worse_one_does_not():
    good, bad = record_of(0.9, seed=1), record_of(0.6, seed=2)
    better, worse = gate(good, bad, PromoteConfig()), gate(bad, good, PromoteConfig())
    assert better.passed and better.difference.low > 0
    assert not worse.passed and worse.difference.value == pytest.approx(-better.difference.value)
    assert "180 clips of 30 subjects" in better.compared


def test_a_model_as_good_as_the_champion_may_replace_it():
    assert gate(record_of(0.8), record_of(0.8), PromoteConfig()).passed


def test_the_interval_of_the_difference_decides_with_the_stated_margin():
    champion, candidate = record_of(0.8, seed=1), record_of(0.8, seed=2)
    low = gate(candidate, champion, PromoteConfig()).difference.low
    assert -0.2 < low < 0, "equally good, with other mistakes"
    assert gate(candidate, champion, PromoteConfig(margin=0.01 - low)).passed
    refused = gate(candidate, champion, PromoteConfig(margin=-low - 0.01))
    assert [c.name for c in refused.checks if not c.passed] == ["mean recall against the champion"]
    assert f"needs an interval above {100 * (low + 0.01):+.1f} points" in refused.reason


def test_pairs_are_found_whatever_the_order_of_clips():
    champion, candidate = record_of(0.7, seed=1), record_of(0.8, seed=2)
    order = np.random.default_rng(0).permutation(len(champion.clips))
    lists = ("clips", "labels", "subjects", "verdicts")
    shuffled = replace(champion, **{n: tuple(getattr(champion, n)[i] for i in order) for n in lists})
    ordered, mixed = (gate(candidate, c, PromoteConfig()).difference.value for c in (champion, shuffled))
    assert ordered == pytest.approx(mixed)


def test_other_data_is_compared_on_the_clips_both_were_judged_on():
    grown = record_of(0.9, seed=1, people=60, fingerprint="grown")
    got = gate(grown, record_of(0.6, seed=2), PromoteConfig())
    assert got.passed and "the clips that both predicted: 180 clips of 30 subjects" in got.compared


def test_too_few_people_in_common_decide_nothing():
    got = gate(record_of(0.9, first=15, fingerprint="g"), record_of(0.6), PromoteConfig())
    assert not got.passed and "15 subjects in common, needs the same classes, 20 subjects" in got.reason


def test_models_of_other_classes_are_not_compared():
    got = gate(replace(record_of(0.9), classes=SEVEN), record_of(0.6), PromoteConfig())
    assert not got.passed and "other classes" in got.reason


def test_record_survives_json():
    record = replace(record_of(0.8), ms_per_clip=float("nan"))
    again = OutOfFoldRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert replace(again, ms_per_clip=0) == replace(record, ms_per_clip=0)
    with pytest.raises(DataError, match="not an out-of-fold record"):
        OutOfFoldRecord.from_json({"classes": ["anger"]})
    with pytest.raises(DataError, match="one equal length"):
        replace(record, verdicts=())


def test_markdown_shows_every_check_and_the_verdict():
    got = gate(record_of(0.6, seed=2), record_of(0.9, seed=1), PromoteConfig(min_mean_recall=0.1))
    text = got.to_markdown()
    assert text.startswith("## Gate: not passed")
    assert text.count("| yes |") == 4 and text.count("**no**") == 1
    for check in got.checks:
        assert f"| {check.name} | {check.had} | {check.needs} |" in text


def beside(candidate, adopted, **cfg):
    cfg = PromoteConfig(**cfg)
    return beside_adopted(gate(candidate, None, cfg), candidate, Adopted(3, adopted), cfg)


def test_a_trained_candidate_is_shown_beside_a_network_that_was_not_trained():
    found = beside(record_of(0.8), record_of(0.6, seed=1, people=36))
    assert found.passed and not found.warning
    assert "On the same 180 clips of 30 subjects, adopted version 3" in found.untrained
    assert found.untrained in found.to_markdown()
    difference = float(found.untrained.rpartition("%: ")[2].split(" [")[0])
    assert 10 < difference < 30


def test_a_candidate_that_gained_nothing_is_promoted_with_a_warning_or_not_at_all():
    warned, refused = (beside(record_of(0.6), record_of(0.8, seed=1), beat_adopted=asked) for asked in (False, True))
    assert warned.passed and "**The candidate is not better than adopted version 3" in warned.to_markdown()
    assert not refused.passed and refused.reason.startswith("mean recall against the adopted version: -")
    assert beside(record_of(0.8), record_of(0.6, seed=1), beat_adopted=True).passed


@pytest.mark.parametrize("adopted", [None, record_of(0.8, first=500)], ids=["no clips", "other clips"])
def test_an_adopted_network_that_was_not_evaluated_on_these_clips_is_named_with_the_remedy(adopted):
    found = beside(record_of(0.8), adopted)
    assert found.passed and "does on these clips is not known; evaluate it by 'ferflow adopt'" in found.untrained
    assert beside(record_of(0.8), adopted, beat_adopted=True).reason.endswith("not known, needs more than 0")
