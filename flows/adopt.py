"""Flow `adopt`: register pretrained emotion networks as a version without training; evaluate them on labelled clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from prefect import flow

from fer_core.config import RunConfig
from fer_core.experiments.adoption import (
    AdoptedEvaluation,
    adopted_backbone,
    adopted_classifier,
    evaluate_adopted,
    write_adopted,
)
from fer_core.models.adopted import whole_course
from fer_core.models.bundle import ModelBundle
from fer_core.reports.page import USE_STATEMENT
from fer_core.tracking.confidence import log_confidence
from fer_core.tracking.connection import connect
from fer_core.tracking.drift_reference import log_reference
from fer_core.tracking.names import run_name
from fer_core.tracking.registry import register, version_title
from fer_core.tracking.run import start_run
from fer_core.workspace import Workspace
from flows.support.environment import settle
from flows.support.prepare import ledgers_of, prepare_faces
from flows.support.summary import name_run, show_summary

NOT_CALIBRATED = "not calibrated: there were no labelled clips"
ONE_CLASS = "not calibrated: clips of one class, or of one person, say nothing of the others"


@flow(name="adopt", persist_result=False)
def adopt_flow(
    networks: str = "fer2013",
    relative: Literal["none", "neutral"] = "neutral",
    config: RunConfig = RunConfig(),  # noqa: B008  frozen; fills the form
) -> dict[str, Any]:
    """Register pretrained emotion networks without training. The flow `promote` can make the version champion.

    Args:
        networks: fer2013, face-api, both as fer2013+face-api, or FILE.onnx, which backbone.onnx describes.
        relative: neutral: each clip is read against the person's own neutral face, where the clip shows one.
        config: all settings; with a labelled manifest, the model is evaluated on all of its clips and calibrated.
    """
    config = settle(config)
    config = config.model_copy(update={"preprocess": whole_course(config.preprocess)})
    workspace = Workspace.open(config.workspace)
    tracking = connect(config.tracking, workspace.root)
    name_run(networks + (", against neutral" if relative == "neutral" else ""))
    backbone = adopted_backbone(networks, config.backbone.onnx)
    classifier = adopted_classifier(backbone, relative, config)
    evaluated: AdoptedEvaluation | None = None
    if config.manifest or (Path(config.workspace) / "clips.csv").is_file():
        prepared = prepare_faces(config, fitted=False)
        evaluated = evaluate_adopted(classifier, backbone, prepared, config, workspace)
    name = run_name("adopted", Path(networks).name, relative)
    with start_run(tracking, name, tags={"kind": "adopted", "model": "adopted"}) as run:
        run.log_config(config, {"model": "adopted", "backbone": networks, "relative": relative})
        run.set_tags({"networks": networks, "relative": relative})
        bundle, folder = write_adopted(classifier, backbone, evaluated, config, workspace)
        if evaluated:
            run.log_data("clips", evaluated.fingerprint, synthetic=evaluated.table.synthetic, source=config.manifest)
            run.log_evaluation(evaluated.evaluation)
            run.log_confusion(evaluated.evaluation, title=f"{networks}, nothing trained")
            run.log_metrics({"ms_per_clip": evaluated.ms_per_clip})
            if evaluated.record:
                log_confidence(run, evaluated.table, evaluated.scores, "mean_scores")
            ledgers = ledgers_of(prepared, evaluated.table.clip_ids, workspace)
            log_reference(run, evaluated.table, evaluated.scores, ledgers)
        version = register(tracking, bundle, folder, run.id, evaluated.record if evaluated else None)
        markdown = _summary(networks, relative, version, evaluated, bundle)
        run.log_text(markdown, "adopted.md")
        run.describe(markdown)
    show_summary(markdown, workspace.root, run_url=run.url, version_url=tracking.version_url(version))
    found = evaluated.evaluation.mean_recall if evaluated else None
    return {
        "version": version,
        "run": run.id,
        "url": run.url,
        "model": str(folder),
        "clips": evaluated.table.n_clips if evaluated else 0,
        "mean_recall": [found.value, found.low, found.high] if found else None,
        "ms_per_clip": round(evaluated.ms_per_clip, 2) if evaluated else None,
        "calibration": _calibration(evaluated),
    }


def _calibration(evaluated: AdoptedEvaluation | None) -> str:
    if evaluated is None:
        return NOT_CALIBRATED
    return f"temperature {evaluated.temperature:.2f}, by other people's clips" if evaluated.temperature else ONE_CLASS


def _reliability(evaluated: AdoptedEvaluation) -> str:
    return f"expected calibration error {100 * evaluated.after.expected_error:.1f} %." if evaluated.after else ONE_CLASS


def _summary(
    networks: str, relative: str, version: int, evaluated: AdoptedEvaluation | None, bundle: ModelBundle
) -> str:
    """Return the card of the adopted model in Markdown: what it is, where it is from, and how well it does."""
    against = "read against the person's own neutral face" if relative == "neutral" else "read as they are"
    lines = [
        f"## Adopted: {version_title(version)}",
        "",
        f"The classifier of {networks}, {against}; nothing was trained.",
        "",
    ]
    lines += [*(f"- {network.origin}" for network in bundle.record.backbones), "", " ".join(USE_STATEMENT), ""]
    if evaluated is None:
        lines.append(f"It is **{NOT_CALIBRATED}**.")
    else:
        if evaluated.table.synthetic:
            lines += ["**Judged on synthetic faces: these numbers say nothing about people.**", ""]
        lines += [
            f"Mean recall {evaluated.evaluation.mean_recall} % on {evaluated.table.n_clips} clips of "
            f"{len(set(evaluated.table.subjects))} people; {evaluated.ms_per_clip:.1f} ms of CPU a clip; "
            + _reliability(evaluated),
        ]
    return "\n".join([*lines, "", "Next: flow `promote` puts it through the gate.", ""])
