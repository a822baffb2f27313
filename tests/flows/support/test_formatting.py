"""How results read on a terminal."""

from __future__ import annotations

import pytest

from fer_core.evaluation.metrics import evaluate
from flows.support.formatting import format_result

LABELS = [0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("mean_recall", (0.5, 0.25, 0.75), "50.0 % [25.0, 75.0]"),
        ("seconds", 1.23456, "1.235"),
        ("status", {"ok": 3, "no_face": 1}, "ok 3, no_face 1"),
        ("path", "a/b", "a/b"),
    ],
)
def test_values_are_rounded_and_recalls_have_their_interval(name, value, text):
    assert format_result(name, value) == text


def test_an_evaluation_is_told_by_its_recall():
    import numpy as np

    numbers = evaluate(np.array(LABELS), np.array(LABELS), [f"s{i}" for i in range(8)]).to_json()
    text = format_result("test", {"mean_scores": {**numbers, "verdicts": {"ab" * 16: 0}}})
    assert text.startswith("mean_scores 100.0 % [") and len(text) < 40
