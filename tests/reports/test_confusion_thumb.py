"""The confusion matrix as a thumbnail."""

from __future__ import annotations

import numpy as np

from fer_core.evaluation.metrics import evaluate
from fer_core.reports.confusion_thumb import SIDE, abbreviations, confusion_thumb


def test_right_verdicts_are_dark_on_the_diagonal_and_absent_classes_are_not_zeros():
    labels = np.arange(10) % 5
    picture = confusion_thumb(evaluate(labels, labels, [f"s{i}" for i in range(10)])).astype(int)
    assert picture.shape == (SIDE, SIDE, 3)
    cell = (SIDE - 70) / 6
    corners = [[int(62 + i * cell + 5) for i in range(6)]] * 2  # of the cells, where no text stands
    shade = picture[np.ix_(*corners)].sum(axis=2)
    assert (np.diag(shade)[:5] < 250).all() and shade[5, 5] > 700 and (shade[~np.eye(6, dtype=bool)] > 700).all()
    text = picture[int(62 + 5 * cell) :, 62:]
    assert (text < 200).any(), "a dash in the row of the class without clips"


def test_abbreviations_tell_classes_apart():
    assert abbreviations(["anger", "disgust", "fear"]) == ["ang", "dis", "fea"]
    assert abbreviations(["pain", "paint", "no_pain"]) == ["pain", "paint", "no_pa"]
