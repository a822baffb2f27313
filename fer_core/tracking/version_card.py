"""The card of a registered version: its description in MLflow, for the person who decides whether to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fer_core.models.bundle import ModelBundle
from fer_core.reports.page import USE_STATEMENT

if TYPE_CHECKING:
    from mlflow.entities import Run as MlflowRun

LIMIT = 4900  # MLflow refuses descriptions of more than 5000 characters
_GATE = "## Promotion"
_EVALUATED = "## Evaluated on other people"


def version_card(name: str, version: int, bundle: ModelBundle, run: MlflowRun) -> str:
    """Return the card of a version in Markdown.

    Args:
        name: name of the registered model.
        version: number of the version.
        bundle: the model.
        run: the run that made it, with its metrics.
    """
    facts, metrics, tags = bundle.facts, run.data.metrics, run.data.tags
    lines = []
    if facts.synthetic:
        lines += ["**Trained on synthetic faces: unproven on real people.**", ""]
    what = "Adopted networks, nothing trained" if facts.model == "adopted" else f"Model `{facts.model}`"
    networks = ", ".join(own.name for own in bundle.record.backbones) or "no network"
    lines += [
        f"{what}, on {networks}. Classes: {', '.join(facts.classes)}. A clip's verdict is by {_words(facts.rule)}."
    ]
    lines += ["", "| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in _rows(bundle, metrics, tags))]
    if bundle.record.backbones:
        lines += ["", "## Networks and licences", "", *(f"- {network.origin}." for network in bundle.record.backbones)]
    lines += [
        "",
        "## Load",
        "",
        "```python",
        f'model = mlflow.pyfunc.load_model("models:/{name}/{version}")  # runs the code that is packed with it',
        'model.predict([{"path": "clip.mp4"}])',
        "```",
        "",
        f"Or without running any of its code: `ferflow score CLIPS` (the champion), `ferflow evaluate CSV --version "
        f"{version}`.",
        "",
        "## Use",
        "",
        " ".join(USE_STATEMENT),
    ]
    return "\n".join(lines)[:LIMIT]


def with_gate(card: str, decision: str) -> str:
    """Return a card with the gate's decision at its end, in place of an earlier one."""
    kept = card.partition(f"\n\n{_GATE}")[0]
    room = max(LIMIT - len(decision) - len(_GATE) - 10, 0)
    return f"{kept[:room]}\n\n{_GATE}\n\n{decision.strip()}"[:LIMIT]


def with_evaluation(card: str, line: str) -> str:
    """Return a card with the newest evaluation at the top of their list, before the gate's decision.

    Args:
        line: the evaluation as one line of a list. The oldest lines go where there is no room for all.
    """
    rest, gate_section, decision = card.partition(f"\n\n{_GATE}")
    rest, _, before = rest.partition(f"\n\n{_EVALUATED}\n\n")
    lines = [line, *before.split("\n")] if before else [line]
    ending = gate_section + decision
    room = LIMIT - len(ending)
    while len(lines) > 1 and len(_joined(rest, lines)) > room:
        lines.pop()
    found = _joined(rest, lines)
    if len(found) > room:
        found = _joined(rest[: max(room - len(_joined("", lines)), 0)], lines)
    return (found.strip() + ending)[:LIMIT]


def _joined(rest: str, lines: list[str]) -> str:
    return f"{rest}\n\n{_EVALUATED}\n\n" + "\n".join(lines)


def _rows(bundle: ModelBundle, metrics: Mapping[str, float], tags: Mapping[str, str]) -> list[tuple[str, str]]:
    facts = bundle.facts
    rows = [("data", _data(bundle))]
    if "mean_recall" in metrics:
        rows.append(("mean recall, people held out", _interval(metrics, "mean_recall")))
        recalls = {k.removeprefix("recall/"): v for k, v in metrics.items() if k.startswith("recall/")}
        rows.append(("recall by class", ", ".join(f"{k} {100 * v:.0f} %" for k, v in sorted(recalls.items()))))
    else:
        rows.append(("mean recall", "not measured: there were no labelled clips"))
    if "test/mean_recall" in metrics:
        times = tags.get("test_openings", "")
        opened = f"; the test set was opened {'once' if times == '1' else f'{times} times'}" if times else ""
        rows.append(("mean recall, test set", f"{_interval(metrics, 'test/mean_recall')}{opened}"))
    else:
        rows.append(("test set", "none"))
    if "calibration/error" in metrics:
        rows.append(("calibration error", f"{100 * metrics['calibration/error']:.1f} %"))
    if facts.budget:
        rows.append(("frame budget", facts.budget.words))
    rows += [("engine", record.words) for record in facts.engines]
    if facts.abstain_below:
        rows.append(("abstains", f"below a confidence of {facts.abstain_below:.2f}"))
    if "ms_per_clip" in metrics:
        rows.append(("CPU time", f"{metrics['ms_per_clip']:.1f} ms a clip, from faces to verdict"))
    return rows


def _data(bundle: ModelBundle) -> str:
    facts = bundle.facts
    if not facts.subjects:
        return "no clip was trained on"
    kind = "synthetic clips" if facts.synthetic else "clips"
    return f"{kind} of {len(facts.subjects) // 2} people, fingerprint `{facts.data_fingerprint[:12]}`"


def _interval(metrics: Mapping[str, float], name: str) -> str:
    value, low, high = (100 * metrics.get(f"{name}{end}", float("nan")) for end in ("", "_low", "_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}] %"


def _words(rule: str) -> str:
    return rule.replace("_", " ")
