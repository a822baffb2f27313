"""Runs in MLflow: settings, data, numbers of every epoch, and results.

Run ids are passed explicitly and no run is active, because trials in many processes each write their own run. Training
fills a `History` and evaluation an `Evaluation`, without MLflow; this module sends both. They can be sent again: values
keep their own times, so MLflow stores each once.
"""

from __future__ import annotations

import io
import json
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml
from pydantic import BaseModel

from fer_core.config import Rule
from fer_core.errors import TrackingAway, TrackingError
from fer_core.evaluation.metrics import Evaluation
from fer_core.runtime import describe_environment, git_commit
from fer_core.store import write_atomic
from fer_core.tracking.connection import Tracking, check_name, connect, mlflow_errors, without_secrets
from fer_core.tracking.grid_image import grid_images
from fer_core.tracking.names import evaluation_metrics, rule_prefix, shown_settings
from fer_core.tracking.origin import origin_tags
from fer_core.tracking.sending import TOKEN, must_wait, went_away, write
from fer_core.tracking.unsent import Request
from fer_core.tracking.views import NOTE, trials_view

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from fer_core.emotions import Classes
    from fer_core.training.history import Epoch, History

__all__ = ["Run", "Tracking", "connect", "continue_run", "find_run", "start_run"]

log = logging.getLogger(__name__)

CONFUSION, VERDICTS = "confusion", "verdicts.json"  # key of the image, name of the table
CURVES = ("loss", "train_accuracy", "validation_loss", "validation_accuracy")
_PARAM_LIMIT = 6000  # MLflow truncates longer values without an error
_TAG_LIMIT = 5000
_DIGEST_LIMIT = 36
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the first is ten times as fast, where PyYAML has it

Status = Literal["FINISHED", "FAILED", "KILLED"]


def start_run(tracking: Tracking, name: str, *, parent: str = "", tags: Mapping[str, str] | None = None) -> Run:
    """Start a run, as a child of `parent` if given, and tag it with commit, versions and this process.

    Where MLflow does not answer, the run waits in the workspace under its token; see `tracking.sending`.

    Raises:
        TrackingError: the name is not accepted, MLflow refuses the request, or it returns an invalid run id.
    """
    check_name(name, "run")
    described = {f"env.{key}": value for key, value in describe_environment().items()}
    described |= {"mlflow.source.name": "ferflow", "mlflow.source.git.commit": git_commit()}
    every = {TOKEN: secrets.token_hex(16), **described, **origin_tags(), **_owned(parent), **(tags or {})}
    every = {k: v[:_TAG_LIMIT] for k, v in every.items() if v}
    at_ms = int(time.time() * 1000)
    if not must_wait(tracking, parent):
        try:
            with mlflow_errors(f"starting run '{name}'"):
                made = tracking.client.create_run(tracking.experiment_id, start_time=at_ms, run_name=name, tags=every)
            run_id = str(made.info.run_id)
            if not re.fullmatch("[0-9a-f]{32}", run_id):  # file names contain it
                raise TrackingError(
                    f"MLflow named run '{name}' {run_id[:60]!r}; a run id is 32 hex digits. Check tracking.uri"
                )
            return Run(tracking, run_id)
        except TrackingAway as exc:
            went_away(tracking, exc)
    new = {"name": name, "experiment": tracking.cfg.experiment, "tags": every, "at_ms": at_ms}
    tracking.unsent.of(every[TOKEN]).add({"run": new})
    return Run(tracking, every[TOKEN])


def continue_run(
    tracking: Tracking, note: Path, name: str, *, parent: str = "", tags: Mapping[str, str] | None = None
) -> Run:
    """Return the run that was started for `note`, running again, or start a new one.

    The run may have been started by a process that died. The note contains a token, and the run has a tag with it. The
    note is written first, so a process killed at any moment leaves at most one run. A new run is started if MLflow has
    no such run (it was deleted, or is in another database).

    Args:
        note: file beside the work that the run records.
        name: name of a new run.
        parent: parent of the run, whether it is new or found.
        tags: tags of a new run.
    Raises:
        TrackingError: the name is not accepted, or MLflow refuses the request.
    """
    token = read_token(note)
    waits = bool(token) and must_wait(tracking, token)
    try:
        found = token if waits and tracking.unsent.of(token).exists() else "" if waits else find_run(tracking, note)
    except TrackingAway as exc:
        went_away(tracking, exc)
        found, waits = "", True
    if found:
        run = Run(tracking, found)
        run.set_tags(_owned(parent))
        run.write({"running": True})
        return run
    if note.is_file() and not waits:
        log.warning("'%s' has no run at %s any more; a new one is begun", name, tracking.shown_uri)
        token = ""
    if not token:  # else MLflow may have the run, which is looked for when the requests are sent
        token = secrets.token_hex(16)
        write_atomic(note, token.encode())
    return start_run(tracking, name, parent=parent, tags={**(tags or {}), TOKEN: token})


def find_run(tracking: Tracking, note: Path) -> str:
    """Return the id of the run started for `note`; '' if there is none.

    Raises:
        TrackingError: MLflow refuses the request.
    """
    token = read_token(note)
    if not token:
        return ""
    with mlflow_errors("looking for a run"):
        return run_of_token(tracking, token)


def run_of_token(tracking: Tracking, token: str) -> str:
    """Return the id of the run with a token; '' if MLflow has none."""
    found = tracking.client.search_runs([tracking.experiment_id], f"tags.`{TOKEN}` = '{token}'", max_results=1)
    return str(found[0].info.run_id) if found else ""


def read_token(note: Path) -> str:
    """Return the token of the run that was started for `note`; '' if there is none."""
    token = note.read_text(errors="replace") if note.is_file() else ""
    return token if re.fullmatch("[0-9a-f]{32}", token) else ""


def _owned(parent: str) -> dict[str, str]:
    from fer_core.tracking.running import PROCESS, this_process

    return {PROCESS: this_process(), **({"mlflow.parentRunId": parent} if parent else {})}


@dataclass(frozen=True)
class Run:
    """One run. Every method that calls MLflow raises TrackingError if MLflow refuses the request or does not answer.

    As a context, it ends the run as FINISHED, as FAILED after an exception, or as KILLED after Ctrl-C. If MLflow
    refuses to end it, the original exception is still raised.
    """

    tracking: Tracking
    id: str
    _collected: dict[str, Any] | None = None  # metrics and tags of a block of `together`

    @property
    def url(self) -> str:
        """Return the URL of the run's page; '' without a server."""
        return self.tracking.run_url(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
            return
        try:
            self.finish("FAILED" if issubclass(kind, Exception) else "KILLED")
        except TrackingError as refused:
            log.warning("%s", refused)

    def write(self, request: Request, content: bytes = b"") -> None:
        """Send a request for this run; see `sending.write`."""
        if self._collected is not None and "metrics" in request:
            self._collected["metrics"] += request["metrics"]
        elif self._collected is not None and "tags" in request:
            self._collected["tags"] |= request["tags"]
        else:
            write(self.tracking, self.id, request, content)

    @contextmanager
    def together(self) -> Iterator[Run]:
        """Yield this run; its metrics and its tags are sent in one request when the block ends without an error.

        MLflow takes some 10 ms for each request. All other requests are sent at once.
        """
        collected: dict[str, Any] = {"metrics": [], "tags": {}}
        yield replace(self, _collected=collected)
        self.write({"batch": collected})

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run with `status`."""
        self.write({"status": status, "at_ms": int(time.time() * 1000)})

    def rename(self, name: str) -> None:
        """Change the name of the run."""
        self.write({"name": check_name(name, "run")})

    def describe(self, markdown: str) -> None:
        """Show Markdown at the head of the run's page."""
        self.set_tags({NOTE: markdown})

    def save_view(self, name: str, searched: Sequence[str]) -> str:
        """Save a view of this run's children, best first, and return its URL; '' without a server.

        Args:
            name: name of the view in MLflow's menu.
            searched: names of the parameters that differ between the children.
        """
        self.write({"view": [name, list(searched)]})
        waits = self.tracking.unsent.of(self.id).exists()
        return "" if waits else self.tracking.view_url(trials_view(self.id, name, searched)[0])

    def log_config(self, config: BaseModel, shown: Mapping[str, Any] | None = None) -> None:
        """Log what a reader needs of the settings as parameters, and all of them as `config.yaml`, without passwords.

        MLflow parameters cannot change. When a continued run has another value for a setting, the value is logged as a
        tag of the same name, and its newest value is valid.

        Args:
            shown: the parameters, if they are not those of `names.shown_settings`.
        """
        data = _redacted(config.model_dump(mode="json"))
        chosen = shown_settings(config) if shown is None else {key: str(value) for key, value in shown.items()}
        self.write({"settings": {key: str(_redacted(value))[:_PARAM_LIMIT] for key, value in chosen.items()}})
        self.log_text(yaml.dump(data, Dumper=_DUMPER, sort_keys=False), "config.yaml")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; a tag that exists gets the new value."""
        self.write({"tags": {key: value[:_TAG_LIMIT] for key, value in tags.items()}})

    def log_data(
        self, name: str, fingerprint: str, *, synthetic: bool, source: str = "", context: str = "train"
    ) -> None:
        """Log the data as a dataset input, and its full fingerprint as a tag.

        Args:
            name: name of the manifest.
            fingerprint: `manifest.fingerprint` of it.
            synthetic: True if any face is drawn or rendered.
            source: path or URL of the manifest, for information.
            context: use of the data, such as `train`.
        """
        where = json.dumps({"uri": without_secrets(source)})
        entry = {"name": name, "digest": fingerprint[:_DIGEST_LIMIT], "source": where, "context": context}
        self.write({"dataset": entry})
        self.set_tags({"data_fingerprint": fingerprint, "synthetic": str(synthetic).lower()})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0, at_ms: int = 0) -> None:
        """Log numbers to six significant digits, whole numbers exactly; those that are NaN are left out.

        Args:
            step: step of all numbers.
            at_ms: time stamp in milliseconds, 0 for now; numbers sent again with the same time are stored once.
        """
        at = at_ms or int(time.time() * 1000)
        self.write({"metrics": [[k, _readable(v), at, step] for k, v in metrics.items() if v == v]})

    def log_history(self, history: History, prefix: str = "") -> None:
        """Log loss and accuracies of every epoch; see `log_epochs`."""
        self.log_epochs(history.epochs, prefix)

    def log_epochs(self, epochs: Sequence[Epoch], prefix: str = "") -> None:
        """Log loss and accuracies of epochs, with the epochs' own times.

        Args:
            prefix: prefix of every name, such as `fold0/`.
        """
        rows = [
            [f"{prefix}{name}", float(value), epoch.ended_at, epoch.number]
            for epoch in epochs
            for name in CURVES
            if (value := getattr(epoch, name)) == value
        ]
        self.write({"metrics": rows})

    def log_evaluation(self, evaluation: Evaluation, prefix: str = "", *, classes: bool = True, at_ms: int = 0) -> None:
        """Log mean recall and accuracy with the ends of their intervals, and the recall of every class.

        Args:
            prefix, classes: see `names.evaluation_metrics`.
        """
        self.log_metrics(evaluation_metrics(evaluation, prefix, classes=classes), at_ms=at_ms)

    def log_rules(self, evaluations: Mapping[Rule, Evaluation], prefix: str = "", *, at_ms: int = 0) -> None:
        """Log the evaluations of several rules: mean scores without a rule's name, the others under theirs."""
        numbers: dict[str, float] = {}
        for rule, evaluation in evaluations.items():
            of_rule = rule_prefix(rule)
            numbers |= evaluation_metrics(evaluation, f"{prefix}{of_rule}", classes=not of_rule)
        self.log_metrics(numbers, at_ms=at_ms)

    def log_confusion(self, evaluation: Evaluation, rule: Rule = "mean_scores", title: str = "") -> None:
        """Log the confusion matrix as a figure, and that of mean scores as `log_thumb` does.

        Args:
            rule: the rule of the verdicts.
            title: title of the figure.
        """
        from fer_core.reports.plots import confusion_figure  # scoring should not import matplotlib

        name = f"{CONFUSION}_{rule}" if rule_prefix(rule) else CONFUSION
        self.log_figure(confusion_figure(evaluation, title or name), f"figures/{name}.png")
        if name == CONFUSION:
            self.log_thumb(evaluation)
        else:
            self.log_json(evaluation.to_json(), f"figures/{name}.json")

    def log_thumb(self, evaluation: Evaluation) -> None:
        """Log the confusion matrix as the image `confusion`, the same in every run for the image grid, and as JSON."""
        from fer_core.reports.confusion_thumb import confusion_thumb

        self.log_json(evaluation.to_json(), f"figures/{CONFUSION}.json")
        for path, content in grid_images(confusion_thumb(evaluation), CONFUSION).items():
            self.write({"artifact": path}, content)
        self.set_tags({"mlflow.loggedImages": "True"})

    def log_verdicts(
        self, clips: Sequence[str], labels: np.ndarray, verdicts: np.ndarray, scores: np.ndarray, classes: Classes
    ) -> None:
        """Log a row per clip as an evaluation table, so that MLflow can compare two runs clip by clip.

        Args:
            clips: n names of clips.
            labels, verdicts: (n,) true and predicted classes, as indices in `classes`.
            scores: (n, k) scores of the clips.
        """
        rows = [
            [clip, str(classes[label]), str(classes[said]), bool(said == label), round(float(score[said]), 4)]
            for clip, label, said, score in zip(clips, labels, verdicts, scores, strict=True)
        ]
        # Not by `log_table`, which needs pandas and appends to the table of a run that is logged again.
        self.log_json({"columns": ["clip", "truth", "verdict", "right", "confidence"], "data": rows}, VERDICTS)
        self.set_tags({"mlflow.loggedArtifacts": json.dumps([{"path": VERDICTS, "type": "table"}])})

    def log_figure(self, figure: Figure, path: str) -> None:
        """Log a figure as .png or .svg. Figures with faces need `log_faces`."""
        content = io.BytesIO()
        figure.savefig(content, format=path.rpartition(".")[2])
        self.write({"artifact": path}, content.getvalue())

    def log_faces(self, figure: Figure, path: str, *, redistribute: bool) -> bool:
        """Log a figure that shows faces, if their databases or `tracking.upload_faces` allow it.

        Args:
            redistribute: True if the databases allow their pictures to be passed on.
        Returns:
            True if the figure was uploaded.
        """
        allowed = redistribute or self.tracking.cfg.upload_faces
        if allowed:
            self.log_figure(figure, path)
        else:
            self.set_tags({"faces": "kept in the workspace: their database forbids passing them on"})
        return allowed

    def log_json(self, value: Any, path: str) -> None:
        """Log a JSON artifact. Raises ValueError for NaN."""
        self.log_text(json.dumps(value, indent=1, allow_nan=False), path)

    def log_text(self, text: str, path: str) -> None:
        """Log a text artifact (Markdown, HTML, YAML)."""
        self.write({"artifact": path}, text.encode())


def _readable(value: float) -> float:
    """Return six significant digits of a number: MLflow's tables cut longer ones off."""
    value = float(value)
    return value if value.is_integer() else float(f"{value:.6g}")


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value
