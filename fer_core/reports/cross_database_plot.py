"""Plot the results of a cross-database evaluation."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fer_core.config import Rule
from fer_core.experiments.cross_database import CrossDatabase
from fer_core.reports.plots import INK, STYLE, canvas


def cross_database_figure(found: CrossDatabase, rule: Rule = "mean_scores") -> Figure:
    """Plot the mean recall of every pair of databases, with interval and number of clips; the diagonal is framed."""
    n = len(found.names)
    values = np.full((n, n), np.nan)
    with rc_context(STYLE):
        figure = canvas(2.4 + 1.7 * n, 1.5 + 1.1 * n)
        ax = figure.subplots()
        for i, source in enumerate(found.names):
            for j, target in enumerate(found.names):
                cell = found.cells[source, target]
                if not cell.evaluations:
                    ax.text(j, i, "–", ha="center", va="center", color="#5f6368")
                    continue
                evaluation = cell.evaluations[rule]
                recall = evaluation.mean_recall
                values[i, j] = 100 * recall.value
                color = "white" if values[i, j] > 60 else INK
                ax.text(j, i - 0.08, f"{values[i, j]:.1f}", ha="center", va="bottom", color=color, fontsize=13)
                small = f"[{100 * recall.low:.1f}, {100 * recall.high:.1f}]\n{evaluation.n_clips} clips"
                ax.text(j, i + 0.02, small, ha="center", va="top", color=color, fontsize=8)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for i in range(n):
            ax.add_patch(Rectangle((i - 0.49, i - 0.49), 0.98, 0.98, fill=False, edgecolor=INK, linewidth=1.2))
        names = [name or "(unnamed)" for name in found.names]
        ax.set_xticks(range(n), names)
        ax.set_yticks(range(n), names)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set(xlabel="tested on", ylabel="trained on")
        ax.set_title("Mean recall across databases, %" + (" (synthetic)" if found.synthetic else ""))
        figure.supxlabel("framed: by cross-validation within the database", fontsize=8, color="#5f6368")
        return figure
