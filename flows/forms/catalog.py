"""The forms of all deployments, in the order in which a user needs them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.fields import FieldInfo

from fer_core.config import ModelName
from fer_core.model_names import FACE_NETWORKS, compared_names
from flows.forms.form import PRESET, Form
from flows.support import reads

_COMPARED: Any = Literal[tuple(compared_names())]
_AT_LEAST_0 = Annotated[int, Field(ge=0)]


def _own(kind: Any, default: Any, title: str, description: str) -> tuple[Any, FieldInfo]:
    return kind, Field(default, title=title, description=description)


def _page(what: str, where: str) -> tuple[Any, FieldInfo]:
    return _own(str, "", f"Path of the {what}", f"On the server. Empty: {where}.")


_VERSION = "Version of the registered model. 0: {}."

_ALL = (
    Form(
        "card", "flows.card.card_flow",
        "Preprocess every clip of a manifest, and write its **data card**: classes, people, detected faces, "
        "warnings, and unusable clips with the reasons.\n\nNext: `search` or `train`.",
        (*reads.CLIPS, "manifest"),
        ("manifest", "faces", "classes", "preprocess.face.detector", "out"),
        {
            "faces": _own(
                bool, True, "Show faces", "Pictures of people on the page. What is sent to MLflow has none where a "
                "database forbids passing them on.",
            ),
            "out": _page("page", "card.html in the workspace"),
        },
        needs="clips",
    ),
    Form(
        "preprocess", "flows.preprocess.preprocess_flow",
        "Find the **faces** in every clip of a manifest and store them; stored faces are reused. Shows the faces per "
        "class, and the clips that cannot be used.\n\nNext: `search`, `train` or `compare`.",
        reads.DATA,
        ("manifest", "classes", "preprocess.selection", "preprocess.face.detector", "frames_table"),
        {"frames_table": _page("table of frames (.parquet or .csv)", "no table")},
        needs="clips",
    ),
    Form(
        "adopt", "flows.adopt.adopt_flow",
        "Register pretrained emotion networks as a **version**, without training. With a labelled manifest, the "
        "version is evaluated and calibrated on all of its clips.\n\nNext: `promote`, then `score`.",
        reads.ADOPT,
        ("networks", "relative", "manifest", "classes", "preprocess.face.detector"),
        {
            "networks": _own(
                str, "fer2013", "Networks", f"{', '.join(FACE_NETWORKS)}, both as {'+'.join(FACE_NETWORKS)}, or "
                "FILE.onnx, which `backbone.onnx` describes.",
            ),
            "relative": _own(
                Literal["none", "neutral"], "neutral", "Compare with the neutral face",
                "neutral: each clip is read against the person's own neutral face, where the clip shows one.",
            ),
        },
    ),
    Form(
        "search", "flows.search.search_flow",
        "**Search** learning rate, batch size, widths and class weights (and models, if you name several) by "
        "cross-validation grouped by people. Shows all trials and the chosen one.\n\nNext: `train` with the folder "
        "of the chosen trial.",
        reads.FITS,
        ("manifest", PRESET, "search.trials", "search.models", "backbone.name"),
        needs="clips",
    ),
    Form(
        "compare", "flows.compare.compare_flow",
        "**Compare models** on the same faces and folds; each clip is predicted out of fold. Gives a table, a "
        "figure and an MLflow run per model.\n\nNext: `train` with the best model.",
        reads.FITS,
        ("manifest", "models", "backbone.name", "epochs", "external"),
        {
            "models": _own(
                list[_COMPARED], [], "Models", "The others are compared with the first one. None: all of them."
            ),
            "epochs": _own(_AT_LEAST_0, 0, "Most epochs", "Of networks over clips. 0: as in their recipes."),
            "external": _own(
                str, "", "Clips of other people: path of a manifest CSV",
                "Every model, fitted to all clips compared on, is evaluated on them too. Empty: no such evaluation.",
            ),
            "untrained": _own(
                bool, True, "Networks without training", "Also show the fetched face networks as published."
            ),
            "stress": _own(
                bool, False, "Stress test",
                "Also show how many verdicts stay when clips are mirrored, scaled, moved, thinned, turned, darker or "
                "compressed. Decodes every clip nine more times.",
            ),
        },
        needs="clips",
    ),
    Form(
        "cross-database", "flows.cross_database.cross_database_flow",
        "Train on each **database** of a manifest and test on every other one. The test set is not used. Gives a "
        "matrix of mean recall with intervals.\n\nNext: `train` on all databases.",
        reads.FITS,
        ("manifest", PRESET, "train.model", "backbone.name", "out"),
        {"out": _page("folder of figure, table and numbers", "cross-database in the workspace")},
        needs="clips",
    ),
    Form(
        "reproduce-thesis", "flows.reproduce.reproduce_thesis_flow",
        "Run the **thesis's four implementations**: each is fitted on the training side, stopped by the rule of "
        "§4.3, and opens the test set once. Gives a page beside the thesis's own numbers.\n\nNext: `rerun` to "
        "repeat one of them.",
        reads.FITS,
        ("manifest", "setting", "only", "shrink", "out"),
        {
            "setting": _own(
                Literal["table-4.1", "section-4.2.2"], "table-4.1", "Learning rate and batch size",
                "The two pairs that the thesis names.",
            ),
            "only": _own(
                list[Annotated[int, Field(ge=1, le=4)]], [], "Implementations", "Their numbers, 1 to 4. None: all four."
            ),
            "shrink": _own(
                Annotated[int, Field(ge=1)], 1, "Divide the FC widths by", "A larger number is a quick rehearsal."
            ),
            "out": _page("folder of the page", "reproduction in the workspace"),
            "fixed_epochs": _own(
                bool, False, "Fixed epochs", "170, 170, 260 and 180 epochs instead of the rule of §4.3."
            ),
            "cross_validate": _own(
                bool, False, "Cross-validate too", "By people; takes several times as long."
            ),
            "overrides": _own(
                list[str], [], "Settings of all implementations", "Of train, backbone and split only: `train.epochs=3`."
            ),
        },
        needs="clips",
    ),
    Form(
        "rerun", "flows.rerun.rerun_flow",
        "**Repeat** a recorded trial, candidate or implementation with its own settings and data, and show which of "
        "its numbers differ. The test set is not used.",
        reads.RERUN,
        ("run_id", "manifest"),
        {
            "run_id": _own(
                str, "", "MLflow run", "Its id, 32 characters. Empty: the run of the version that was registered last."
            ),
            "manifest": _own(
                str, "", "Clips: path of a manifest CSV", "Where its clips are now. Empty: where they were."
            ),
        },
    ),
    Form(
        "train", "flows.train.train_flow",
        "**Train** one model: cross-validate, fit on all training people, calibrate, test, and register a version as "
        "candidate.\n\nNext: `promote` checks it by the gate.",
        reads.TRAIN,
        ("manifest", "trial", "model", PRESET, "backbone.name"),
        {
            "trial": _own(
                str, "", "Trial: path of its folder",
                "A complete trial of a search, whose settings are used. Empty: the settings of this form.",
            ),
            "model": _own(
                ModelName | None, None, "Model", "By its own recipe. None: the model of the settings (`train.model`)."
            ),
        },
        needs="clips",
    ),
    Form(
        "promote", "flows.promote.promote_flow",
        "Check a version by the **gate**, and make it champion if it passes; otherwise show the failed checks and "
        "change nothing.\n\nNext: `score`.",
        reads.PROMOTE,
        (
            "version", "promote.min_mean_recall", "promote.min_class_recall", "promote.max_calibration_error",
            "promote.force",
        ),
        {"version": _own(_AT_LEAST_0, 0, "Version", _VERSION.format("the newest candidate"))},
    ),
    Form(
        "score", "flows.score.score_flow",
        "**Score** videos with the champion. Every input gets a row in `verdicts.csv`, also if it cannot be scored, "
        "and a page, `report.html`, shows all of them.\n\nNext: `evaluate` where the clips have labels.",
        reads.SCORE,
        ("paths", "score.abstain_below", "score.explain", "score.max_frames", "out"),
        {
            "paths": _own(
                list[str], [], "Videos, folders or manifests",
                "Paths on the server. None: the folder `incoming` of the workspace.",
            ),
            "out": _page("folder of verdicts and report", "a new folder in `scored` of the workspace"),
        },
        needs="videos",
    ),
    Form(
        "watch", "flows.watch.watch_flow",
        "**Score what has arrived** in a folder since the last run, each content once; files that are still being "
        "copied wait for the next run. Gives one table and a page, the newest first. No folder: `incoming` of the "
        "workspace. `ferflow up --set watch.folder=DIR` runs it every few minutes.\n\nNext: open the page.",
        reads.WATCH,
        ("watch.folder", "watch.settle_s", "score.abstain_below", "score.explain", "score.max_frames"),
        needs="folder",
    ),
    Form(
        "evaluate", "flows.evaluate.evaluate_flow",
        "**Evaluate** a version on labelled clips. Clips of people that it was trained on are left out, and "
        "counted. Gives recall, confusion, calibration, and a page.\n\nNext: `promote`, with floors that fit these "
        "clips.",
        reads.SCORE,
        ("manifest", "version", "stress", "score.rule", "out"),
        {
            "manifest": _own(str, "", "Clips: path of a manifest CSV", "Empty: clips.csv in the workspace."),
            "version": _own(_AT_LEAST_0, 0, "Version", _VERSION.format("the champion")),
            "stress": _own(
                bool, False, "Stress test",
                "Score again: mirrored, scaled, moved, thinned, turned, darker, compressed. The clips need no labels.",
            ),
            "out": _page("page", "a file in the workspace"),
        },
    ),
    Form(
        "end-to-end", "flows.end_to_end.end_to_end_flow",
        "**All steps**: faces, search, candidate, gate, champion and a scored folder. Without a manifest it draws "
        "faces, and marks all results as synthetic: try this first.\n\nNext: your own clips, by `card`.",
        reads.END_TO_END,
        ("manifest", "subjects", PRESET, "search.trials", "backbone.name"),
        {"subjects": _own(Annotated[int, Field(ge=4)], 24, "People to draw", "Without a manifest; six clips each.")},
    ),
)  # fmt: skip
FORMS = {form.name: form for form in _ALL}
