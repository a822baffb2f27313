"""Loss, and both accuracies, over the epochs of a fit, as SVG whose colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from fer_core.training.history import History

_LEFT, _RIGHT, _TOP, _FLOOR = 34, 352, 8, 128
_TICKS = (1, 2, 5)


def loss_svg(history: History, validated: bool = True) -> Markup:
    """Mean loss of every epoch, training and (where there is a validation set) validation."""
    lines = [("training", history.column("loss"))]
    if validated:
        lines.append(("validation", history.column("validation_loss")))
    shown = sorted(v for _, line in lines for v in line if math.isfinite(v))
    # a first epoch of 100 times the loss would flatten all others; it leaves the picture at the top
    top = _round_up(min(shown[-1], 3 * shown[int(0.9 * (len(shown) - 1))])) if shown else 1.0
    return _chart(lines, len(history), top, [0, top / 2, top], lambda v: f"{v:g}", "mean loss")


def accuracy_svg(history: History, validated: bool = True) -> Markup:
    """Share of right frames of every epoch, training and validation."""
    lines = [("training", history.column("train_accuracy"))]
    if validated:
        lines.append(("validation", history.column("validation_accuracy")))
    return _chart(lines, len(history), 1.0, [0, 0.5, 1], lambda v: f"{100 * v:.0f} %", "accuracy per frame")


def _chart(
    lines: Sequence[tuple[str, Sequence[float]]],
    n_epochs: int,
    top: float,
    ticks: Sequence[float],
    name: Callable[[float], str],
    label: str,
) -> Markup:
    def x(epoch: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (epoch - 1) / max(n_epochs - 1, 1)

    def y(value: float) -> float:
        return _FLOOR - (_FLOOR - _TOP) * min(value / top, 1.02)

    parts = [f'<svg class="curve" viewBox="0 0 360 146" role="img" aria-label="{label}, {n_epochs} epochs">']
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{_RIGHT}"/>')
        parts.append(f'<text class="name" x="{_LEFT - 5}" y="{y(tick) + 3:.1f}">{name(tick)}</text>')
    for epoch in _epochs(n_epochs):
        parts.append(f'<text class="tick" x="{x(epoch):.1f}" y="{_FLOOR + 14}">{epoch}</text>')
    for kind, values in lines:
        points = [(x(i), y(v)) for i, v in enumerate(values, start=1) if math.isfinite(v)]
        if len(points) == 1:
            parts.append(f'<circle class="{kind}" cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"/>')
        elif points:
            drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            parts.append(f'<polyline class="{kind}" points="{drawn}"/>')
    return Markup("".join(parts) + "</svg>")


def _epochs(n: int) -> list[int]:
    """About four round epochs, the first and the last among them."""
    step = _round_up(n / 4) if n > 4 else 1
    inner = [e for e in range(int(step), n, int(step)) if 1 < e < n - 0.4 * step]
    return sorted({1, *inner, n}) if n else []


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next((power * m for m in _TICKS if power * m >= value), 10 * power)
