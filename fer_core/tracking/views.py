"""Saved views of MLflow's table of runs: which columns and charts to show, and in which order the runs are listed.

MLflow 3.16 keeps a view as a tag of the experiment, `mlflow.sharedViewState.ID`: JSON with a name, times, and the state
of the page, compressed. `viewStateShareKey=ID` in a link opens it (`connection.Tracking.view_url`).
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

NOTE = "mlflow.note.content"  # tag: the description of a run or an experiment
_TAG = "mlflow.sharedViewState."
MODELS_VIEW = "ferflow-models"
_SAVED_MS = 1767225600000  # a fixed time, so that the same view is the same tag
_METRICS = ("mean_recall", "mean_recall_low", "mean_recall_high", "weakest_recall", "ms_per_clip", "parameters")
_PARAMS = ("model", "backbone", "lr", "batch_size", "widths", "class_weights")
_COLLAPSED = (
    "abstention",
    "calibration",
    "test",
    "external",
    "first_folds",
    "majority_vote",
    "log_mean_scores",
    "sets",
)

ABOUT = """\
Runs of ferflow. **Which model to take:** open the view *Models, best first* (menu *Views*), or the link that a command
prints: complete trials and models by `mean_recall` with its 95 % interval, then the weakest class and the time a clip.

| metric | meaning |
| --- | --- |
| `mean_recall`, `_low`, `_high` | mean recall of the classes on people the fit has not seen, and its 95 % interval |
| `weakest_recall`, `recall/…` | recall of the worst class, and of each |
| `ms_per_clip` | CPU milliseconds from stored faces to a verdict |
| `test/…`, `external/…`, `first_folds/…` | the same numbers on other clips; a pruned trial has only `first_folds/` |
| `majority_vote/…`, `log_mean_scores/…` | the same numbers by another rule than mean scores |
| `fold0/…` | curves of one fold |

All settings of a run are its artifact `config.yaml`, the verdict of every clip is in `verdicts.json`.
"""


def trials_view(parent: str, name: str, searched: Sequence[str]) -> tuple[str, str, str]:
    """Return the view of the runs under one parent: its id, and the experiment's tag with its value.

    Args:
        parent: id of the parent run.
        name: name of the view in the menu.
        searched: names of the parameters that differ between the runs.
    """
    view = f"ferflow-{parent[:12]}"
    state = _state(f"tags.mlflow.parentRunId = '{parent}'", list(searched), curves=True)
    return view, f"{_TAG}{view}", _envelope(name, state)


def _state(chosen: str, params: list[str], *, curves: bool) -> dict[str, Any]:
    columns = [f"metrics.`{name}`" for name in _METRICS] + [f"params.`{name}`" for name in params]
    sections, charts = _charts(params, curves)
    return {
        "searchFilter": chosen, "orderByKey": "metrics.`mean_recall`", "orderByAsc": False, "startTime": "ALL",
        "lifecycleFilter": "Active", "datasetsFilter": [], "modelVersionFilter": "All Runs",
        "selectedColumns": columns, "columnOrder": columns, "columnWidths": {}, "runsExpanded": {}, "runsPinned": [],
        "runsHidden": [], "runsVisibilityMap": {}, "runsHiddenMode": "FIRST_20_RUNS", "viewMaximized": False,
        "runListHidden": False, "isAccordionReordered": True, "useGroupedValuesInCharts": True, "hideEmptyCharts": True,
        "groupBy": None, "groupsExpanded": {}, "autoRefreshEnabled": True, "compareRunSections": sections,
        "compareRunCharts": charts,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }  # fmt: skip


def _charts(params: list[str], curves: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the sections of the page of charts, and the charts in them; what is read first comes first."""
    charts: list[dict[str, Any]] = []

    def add(section: str, kind: str, title: str, **fields: Any) -> None:
        card = {"uuid": f"ferflow-{len(charts)}", "type": kind, "metricSectionId": section, "displayName": title}
        charts.append({**card, "runsCountToCompare": 100, "deleted": False, "isGenerated": False, **fields})

    def metric(name: str) -> dict[str, str]:
        return {"key": name, "type": "METRIC"}

    for name, title in (
        ("mean_recall", "Mean recall"), ("weakest_recall", "Recall of the weakest class"), ("ms_per_clip", "ms a clip")
    ):  # fmt: skip
        add("choose", "BAR", title, metricKey=name)
    cost = {"xaxis": metric("ms_per_clip"), "yaxis": metric("mean_recall")}
    add("choose", "SCATTER", "Mean recall against ms a clip", **cost)
    add("confusion", "IMAGE", "Confusion matrix, out of fold, %", imageKeys=["confusion"], step=0)
    if params:
        add(
            "settings", "PARALLEL", "Settings and mean recall",
            selectedParams=params, selectedMetrics=["mean_recall"], showAllRuns=False,
        )  # fmt: skip
    if curves:
        for name, title in (
            ("fold0/validation_accuracy", "Validation accuracy, fold 0"),
            ("fold0/loss", "Loss, fold 0"),
        ):
            add(
                "curves", "LINE", title, metricKey=name, selectedMetricKeys=[name], xAxisKey="step", yAxisKey="metric",
                xAxisScaleType="linear", scaleType="linear", lineSmoothness=0, range={}, selectedXAxisMetricKey="",
                yAxisExpressions=[], ignoreOutliers=False, useGlobalXaxisKey=True, useGlobalLineSmoothing=True,
            )  # fmt: skip
    titles = {
        "choose": "To choose by", "confusion": "Confusion matrices", "settings": "Settings", "curves": "Curves",
        "recall": "recall",
    }  # fmt: skip
    rest = {name: name for name in (*_COLLAPSED, *(f"fold{i}" for i in range(10)))}
    sections = [
        {
            "uuid": key, "name": title, "display": key not in rest, "isReordered": True, "deleted": False,
            "isGenerated": False,
        }
        for key, title in (titles | rest).items()
    ]  # fmt: skip
    return sections, charts


def _envelope(name: str, state: dict[str, Any]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state, sort_keys=True).encode(), 9)).decode()
    saved = {"name": name, "createdAt": _SAVED_MS, "updatedAt": _SAVED_MS, "state": f"deflate;{packed}"}
    return json.dumps(saved, sort_keys=True)


_MODELS = _state(
    "metrics.mean_recall >= 0 AND tags.kind != 'search' AND tags.kind != 'evaluation'", list(_PARAMS), curves=False
)
EXPERIMENT_TAGS = {NOTE: ABOUT, f"{_TAG}{MODELS_VIEW}": _envelope("Models, best first", _MODELS)}
