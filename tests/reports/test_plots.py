from __future__ import annotations

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from fer_core.emotions import SEVEN
from fer_core.errors import ShapeError
from fer_core.evaluation.calibration import reliability
from fer_core.evaluation.metrics import evaluate
from fer_core.models.verdict import apply_temperature
from fer_core.reports.plots import (
    confusion_figure,
    contact_sheet,
    curves_figure,
    figure_pixels,
    figure_png,
    figure_svg,
    reliability_figure,
)
from fer_core.training.history import Epoch, History

NAN = float("nan")


def history(epochs: int, validated: bool = True) -> History:
    value = 0.5 if validated else NAN
    return History([Epoch(i + 1, 1.0, 0.4, value, value, 1e-3, 0.1, 1) for i in range(epochs)])


def texts(figure) -> list[str]:
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(6), 60)


def test_confusion_cells_show_share_and_count():
    labels, verdicts = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    figure = confusion_figure(evaluate(verdicts, labels, list("abcd")), "Out of fold")
    shown = texts(figure)
    assert {"66.7 %\n2", "33.3 %\n1", "100.0 %\n1", "Out of fold"} <= set(shown)
    assert shown.count("–") == 4 * 6  # four emotions without clips are no zeros


def test_figures_are_pngs_of_their_size(scores):
    labels = scores.argmax(axis=1)
    figures = {
        "confusion": confusion_figure(evaluate(labels, labels, [str(i) for i in range(60)])),
        "seven": confusion_figure(evaluate(np.arange(7), np.arange(7), list("abcdefg"), SEVEN)),
        "curves": curves_figure({"fold 0": history(3), "fold 1": history(5)}, "Trial 1"),
        "refit": curves_figure({"refit": history(1, validated=False)}),
        "reliability": reliability_figure({"before": reliability(scores, labels)}),
    }
    for name, figure in figures.items():
        image = Image.open(io.BytesIO(figure_png(figure, dpi=50)))
        assert image.format == "PNG", name
        width, height = figure.get_size_inches() * 50
        assert np.abs(np.array(image.size) - (width, height)).max() < 1, name
        pixels = figure_pixels(figure, dpi=50)
        assert pixels.dtype == np.uint8 and pixels.shape[2] == 3 and pixels.std() > 5, name


def test_no_figure_is_left_with_pyplot():
    before = plt.get_fignums()
    confusion_figure(evaluate(np.arange(6), np.arange(6), list("abcdef")))
    assert plt.get_fignums() == before


def test_style_does_not_leak_into_the_users_own_plots():
    before = dict(plt.rcParams)
    curves_figure({"a": history(2)})
    assert dict(plt.rcParams) == before


def test_curves_say_validation_only_where_there_was_one():
    assert "validation" in texts(curves_figure({"a": history(3)}))
    assert "validation" not in texts(curves_figure({"a": history(3, validated=False)}))


def test_reliability_names_the_error_of_each_stage(scores):
    labels = scores.argmax(axis=1)
    stages = {"before": reliability(scores, labels), "after": reliability(apply_temperature(scores, 0.1), labels)}
    shown = texts(reliability_figure(stages))
    for name, numbers in stages.items():
        assert f"{name}: error {100 * numbers.expected_error:.1f} %" in shown


def test_contact_sheet_takes_grey_and_colour_faces_of_any_size():
    rows = {"anger": [np.zeros((224, 224), np.uint8)], "joy": [np.full((50, 60, 3), 90, np.uint8)] * 3}
    figure = contact_sheet(rows, "Apex")
    sheet = np.asarray(figure.axes[0].images[0].get_array())
    assert sheet.shape == (2 * 96, 3 * 96, 3)
    assert sheet[48, 48].tolist() == [0, 0, 0]
    assert sheet[48, 150].tolist() == [255, 255, 255]  # an empty place
    assert {"anger", "joy", "Apex"} <= set(texts(figure))


def test_contact_sheet_without_faces_is_refused():
    with pytest.raises(ShapeError, match="at least one face"):
        contact_sheet({"anger": []})


def test_a_figure_is_the_same_svg_each_time():
    first, again = (figure_svg(curves_figure({"a": history(2)})) for _ in range(2))
    assert first == again and first.startswith(b"<?xml") and b"<svg" in first
