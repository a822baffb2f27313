"""Plots of numbers as matplotlib figures; no function opens a window or a file."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fer_core.errors import ShapeError
from fer_core.evaluation.calibration import Reliability
from fer_core.evaluation.metrics import Evaluation

if TYPE_CHECKING:
    from fer_core.training.history import History

STYLE: Any = {  # matplotlib's type for the keys is a literal of 300 words
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e3e5e8",
    "legend.frameon": False,
}
INK, _TRAIN, _VALIDATION, _THIRD = "#30343b", "#0072B2", "#D55E00", "#009E73"
_TILE = 96  # pixels of a face in a contact sheet


def figure_png(figure: Figure, dpi: int = 120) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def figure_svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file, with the same bytes for the same figure."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "ferflow"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def figure_pixels(figure: Figure, dpi: int = 120) -> np.ndarray:
    """Return the figure as pixels, (h, w, 3) uint8 RGB."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def confusion_figure(evaluation: Evaluation, title: str = "") -> Figure:
    """Plot the confusion matrix, rows normalised to % (thesis, Figs 4.3 ff.), with counts in small print."""
    from sklearn.metrics import ConfusionMatrixDisplay  # its import takes a second

    with rc_context(STYLE):
        side = max(6.2, 1.7 + 0.75 * len(evaluation.classes))
        figure, ax = _figure(side, side - 0.8)
        percent = evaluation.normalized()
        display = ConfusionMatrixDisplay(percent, display_labels=[str(c) for c in evaluation.classes])
        display.plot(
            ax=ax, cmap="Blues", colorbar=False, xticks_rotation=30, values_format=".0f",
            im_kw={"vmin": 0, "vmax": 100}, text_kw={"fontsize": 9},
        )  # fmt: skip
        for (row, column), text in np.ndenumerate(display.text_):
            count = int(evaluation.confusion[row, column])
            absent = np.isnan(percent[row, column])
            text.set_text("–" if absent else f"{percent[row, column]:.1f} %\n{count}" if count else "0")
            text.set_color("#9aa0a6" if absent or not count else "white" if percent[row, column] > 50 else INK)
        for label in ax.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
        ax.set(xlabel="verdict", ylabel="truth")
        ax.set_title(title)
        figure.supxlabel(
            f"mean recall {evaluation.mean_recall} %   accuracy {evaluation.accuracy} %   "
            f"{evaluation.n_clips} clips of {evaluation.n_subjects} subjects",
            fontsize=8, color="#5f6368",
        )  # fmt: skip
        return figure


def curves_figure(histories: Mapping[str, History], title: str = "") -> Figure:
    """Plot loss and accuracies per frame over the epochs (§4.3); of several folds, a thin line each and their mean.

    Args:
        histories: name of the fit or fold -> its history.
    """
    with rc_context(STYLE):
        figure, loss, accuracy = _two_panels()
        for ax, what in ((loss, ("loss", "validation_loss")), (accuracy, ("train_accuracy", "validation_accuracy"))):
            for column, label, color in zip(what, ("training", "validation"), (_TRAIN, _VALIDATION), strict=True):
                _fold_lines(ax, [h.column(column) for h in histories.values()], label, color)
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.grid(axis="y")
        loss.set_title("mean loss")
        loss.set_ylim(bottom=0)
        accuracy.set_title("accuracy per frame")
        accuracy.set_ylim(0, 1)
        accuracy.yaxis.set_major_formatter(PercentFormatter(1))
        accuracy.legend(loc="lower right")
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        return figure


def reliability_figure(stages: Mapping[str, Reliability], title: str = "") -> Figure:
    """Plot accuracy over confidence (on the diagonal when calibrated), and below it the number of clips.

    Args:
        stages: name (`before`, `after`) -> its reliability, at most three.
    """
    with rc_context(STYLE):
        figure = canvas(5.2, 5.6)
        ax, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        ax.plot([0, 1], [0, 1], color="#9aa0a6", linestyle=":", linewidth=1.2)
        for (name, numbers), color in zip(stages.items(), (_VALIDATION, _TRAIN, _THIRD), strict=False):
            there = numbers.count > 0
            label = f"{name}: error {100 * numbers.expected_error:.1f} %"
            ax.plot(
                numbers.confidence[there],
                numbers.accuracy[there],
                "o-",
                color=color,
                markersize=5,
                label=label,
                clip_on=False,
            )
            edges = np.linspace(0, 1, len(numbers.count) + 1)
            below.stairs(numbers.count, edges, color=color, linewidth=1.4)
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="share right")
        below.set(xlabel="confidence", ylabel="clips")
        for axis in (ax.yaxis, below.xaxis):
            axis.set_major_formatter(PercentFormatter(1))
        ax.grid()
        ax.legend(loc="upper left")
        ax.set_title(title)
        return figure


def contact_sheet(rows: Mapping[str, Sequence[np.ndarray]], title: str = "") -> Figure:
    """Plot faces in a grid, one named row per group, each face 96 pixels wide.

    Args:
        rows: name -> (h, w) grey or (h, w, 3) RGB uint8 faces of any size.
    Raises:
        ShapeError: there are no faces.
    """
    columns = max((len(faces) for faces in rows.values()), default=0)
    if not columns:
        raise ShapeError("a contact sheet needs at least one face")
    sheet = np.full((len(rows) * _TILE, columns * _TILE, 3), 255, dtype=np.uint8)
    for i, faces in enumerate(rows.values()):
        for j, face in enumerate(faces):
            small = cv2.resize(face, (_TILE - 4, _TILE - 4), interpolation=cv2.INTER_AREA)
            tile = small if small.ndim == 3 else np.repeat(small[..., None], 3, axis=2)
            sheet[i * _TILE + 2 : (i + 1) * _TILE - 2, j * _TILE + 2 : (j + 1) * _TILE - 2] = tile
    with rc_context(STYLE):
        margin = 0.15 + 0.085 * max(len(name) for name in rows)
        width, height = margin + columns * _TILE / 100 + 0.1, len(rows) * _TILE / 100 + (0.45 if title else 0.15)
        figure = Figure(figsize=(max(width, 3.0), height))
        FigureCanvasAgg(figure)
        ax = figure.add_axes((
            margin / figure.get_figwidth(), 0.05 / height,
            columns * _TILE / 100 / figure.get_figwidth(), len(rows) * _TILE / 100 / height,
        ))  # fmt: skip
        ax.imshow(sheet, aspect="auto")
        ax.set_xticks([])
        ax.set_yticks([(i + 0.5) * _TILE for i in range(len(rows))], list(rows))
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        if title:
            ax.set_title(title)
        return figure


def _fold_lines(ax: Axes, folds: Sequence[Sequence[float]], label: str, color: str) -> None:
    longest = max((len(fold) for fold in folds), default=0)
    padded = np.full((len(folds), longest), np.nan)
    for i, fold in enumerate(folds):
        padded[i, : len(fold)] = fold
    if np.isnan(padded).all():
        return
    epochs = np.arange(1, longest + 1)
    if len(folds) > 1:
        ax.plot(epochs, padded.T, color=color, linewidth=0.7, alpha=0.35)
    running = (~np.isnan(padded)).sum(axis=0)
    mean = np.divide(np.nansum(padded, axis=0), running, out=np.full(longest, np.nan), where=running > 0)
    ax.plot(epochs, mean, color=color, linewidth=2, label=label, marker="o" if longest == 1 else "", markersize=4)


def canvas(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = canvas(width, height)
    return figure, figure.subplots()


def _two_panels() -> tuple[Figure, Axes, Axes]:
    figure = canvas(9.2, 3.6)
    left, right = figure.subplots(1, 2)
    return figure, left, right
