from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from fer_core.errors import DataError
from fer_core.evaluation.drift import MEASURES, Level, Sample, drift, sample_of, stability_index
from fer_core.preprocess.faces import FrameStatus, Ledger

RNG = np.random.default_rng(0)


def ledger(statuses: str, side: int = 50, brightness: float = 100) -> Ledger:
    """Frames with (`x`) and without (`.`) a face."""
    used = np.array([s == "x" for s in statuses])
    m = len(used)
    status = tuple(FrameStatus.USED if u else FrameStatus.NO_FACE for u in used)
    boxes = np.where(used[:, None], [[0, 0, side, side]], 0)
    grey = np.where(used, brightness, np.nan)
    return Ledger(np.arange(m), np.arange(m) / 25, status, boxes, used * 5.0, brightness=grey)


def sample(n: int, size: float = 50, spread: float = 5, verdicts: dict[str, int] | None = None) -> Sample:
    values = {name: RNG.normal(size, spread, n) for name in MEASURES}
    return Sample(values, verdicts or {"fear": n // 2, "anger": n - n // 2})


def test_measures_are_those_of_the_used_frames():
    found = sample_of([ledger("xx..", 40, 80), ledger("....")], [0.7], ["fear"])
    assert found.values["no_face"].tolist() == [0.5, 1.0]
    assert found.values["face_size"].tolist() == [40] and found.values["brightness"].tolist() == [80]
    assert found.verdicts == {"fear": 1}


def test_brightness_that_was_not_measured_is_left_out():
    old = Ledger(np.arange(2), np.zeros(2), (FrameStatus.USED,) * 2, np.full((2, 4), 30), np.ones(2))
    found = sample_of([old], [], [])
    assert len(found.values["brightness"]) == 0 and found.values["face_size"].tolist() == [30]


def test_same_distribution_does_not_drift_and_another_does():
    reference = sample(400)
    same = {d.measure: d for d in drift(reference, sample(200))}
    assert all(d.level is Level.NONE for d in same.values())
    other = drift(reference, sample(200, size=60, verdicts={"fear": 190, "anger": 10}))
    assert all(d.level is Level.STRONG for d in other)
    assert other[0].before == pytest.approx(50, abs=1) and other[0].now == pytest.approx(60, abs=1)
    assert other[0].statistic > 0.5 and other[0].p_value < 1e-6


def test_few_clips_never_alarm():
    found = drift(sample(400), sample(10, size=90))
    assert {d.level for d in found} == {Level.TOO_FEW} and all(np.isnan(d.psi) for d in found)


def test_index_is_that_of_the_formula_and_finite_for_empty_bins():
    assert stability_index(np.arange(1000.0), np.arange(1000.0)) == pytest.approx(0, abs=1e-12)
    before, now = np.repeat([0.0, 1.0], [50, 50]), np.repeat([0.0, 1.0], [25, 75])
    p, q = np.array([50.5, 50.5]) / 101, np.array([25.5, 75.5]) / 101
    assert stability_index(before, now) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert 1 < stability_index(np.arange(100.0), np.full(100, 1e6)) < 20


def test_sample_survives_json_and_another_file_is_refused():
    one = sample(40)
    again = Sample.from_json(json.loads(json.dumps(one.to_json())))
    assert again.verdicts == one.verdicts
    assert all(np.allclose(again.values[name], one.values[name], atol=1e-4) for name in MEASURES)
    for bad in ({}, [], {"values": {}, "verdicts": {}}, {"values": {n: ["x"] for n in MEASURES}, "verdicts": {}}):
        with pytest.raises(DataError, match="no record of the training clips"):
            Sample.from_json(bad)


def test_a_few_clips_are_compared_without_scipy():
    code = (
        "import sys; from fer_core.evaluation.drift import drift, sample_of; few = sample_of([], [0.5], ['fear']); "
        "print({found.level.value for found in drift(few, few)}, 'scipy.stats' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert told == "{'too few clips'} False\n"
