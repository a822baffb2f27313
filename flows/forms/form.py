"""A form: the parameters of a deployment, made from the settings, and turned back into them.

The most important settings stand alone at the top. The other settings of a section are one parameter, which is closed
until a user opens it. A value equal to the default counts as not given, because the UI sends all values of an open
section: a preset or the recipe of a model then gives it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.fields import FieldInfo

from fer_core.config import PRESETS, RunConfig, config_from, merge
from fer_core.config_errors import explain
from fer_core.errors import ConfigError
from flows.support.missing import check_manifest, inputs, watched

PRESET, LABELS, MORE = "preset", "labels", "more"
HIDDEN = ("tracking.uri",)  # the server's own
SHOWN = 6  # settings of a closed section that its description names
SECTIONS = {
    MORE: "More of this flow",
    LABELS: "Classes and neutral faces",
    "preprocess": "Frames and faces",
    "split": "Split by people",
    "backbone": "Backbone: the network that computes features",
    "train": "Training",
    "search": "Search and folds",
    "promote": "Gate",
    "score": "Scoring",
    "watch": "Watched folder",
    "tracking": "Names and records in MLflow",
    "limits": "Limits of a clip",
    "runner": "Cluster",
}
TITLES = {
    "score.max_frames": "Most frames per clip",
    "watch.folder": "Folder to watch: path on the server", "watch.settle_s": "Time without a change (s)",
    "watch.every_s": "Time between looks (s)",
    "backbone.name": "Backbone network", "search.name": "Name of the study", "train.model": "Model",
    "backbone.names": "Several networks joined", "search.models": "Models to search", "search.lr": "Learning rates",
    "tracking.model": "Name of the registered model", "tracking.experiment": "MLflow experiment",
    "train.augment.views": "Views per face", "search.views": "Numbers of views", "runner.kind": "Where the work runs",
    "runner.address": "Address of the Dask scheduler", "score.rule": "Rule from frames to clip",
    "preprocess.face.detector": "Face detector", "preprocess.selection": "Frames to use", "limits.workers":
    "Decoding processes", "search.workers": "Trials at a time", "backbone.weights": "Weights", "promote.force":
    "Promote in any case", "promote.min_mean_recall": "Smallest mean recall", "promote.min_class_recall":
    "Smallest recall of any class", "promote.max_calibration_error": "Largest calibration error",
    "split.test": "Share of clips in the test set", "split.validation": "Share of clips in a validation set",
    "lr": "Learning rate", "block_lr": "Learning rate of the last block", "step_gamma": "Factor at each step",
    "manifest": "Clips: path of a manifest CSV", "trials": "Number of trials", "min_size": "Smallest face",
    "min_weight": "Smallest confidence of a face", "timeout_s": "Time for one clip (s)",
    "timeout_per_minute_s": "Additional time per minute (s)", "memory_mb": "Memory of a decoding process (MiB)",
    "max_bytes": "Largest file (bytes)", "max_pixels": "Largest frame (pixels)", "max_frames": "Most frames",
    "max_quarantine": "Largest share of unusable clips", "max_ms_per_clip": "Largest CPU time per clip (ms)",
    "inner_share": "Share of people for early stopping", "pretrained_fc": "Start from the backbone's FC layers",
    "min_stays": "Smallest share of verdicts that stay", "explain": "Frames to explain per clip",
    "abstain_below": "Abstain below this confidence", "face_mode": "Face search", "scheme": "Kind of split",
    "coverages": "Coverages of prediction sets", "upload_faces": "Upload faces", "storage": "Optuna storage",
    "frames_per_s": "Frames per second", "approval_timeout_s": "Time to wait for the approval (s)",
    "length_s": "Length (s)", "step_s": "Step (s)", "max_ms": "Most CPU time per clip (ms)",
    "minutes": "Time limit (minutes)", "size": "Side of a face (pixels)", "train_on": "Databases to train on",
    "test_on": "Databases to test on", "neutral_from": "Databases whose clips begin neutral",
    "windows": "Verdicts of windows in time", "onnx": "Network in an ONNX file",
    "augment": "Data augmentation", "face": "Face detection", "full": "Search more",
}  # fmt: skip


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a form; `default` is what an untouched form sends, of a section what it sends once opened."""

    kind: Any
    info: FieldInfo
    default: Any


@dataclass(frozen=True)
class Form:
    """The form of one deployment.

    Args:
        name: of the deployment and its flow.
        flow: `module.function` of the flow that runs.
        about: what the flow makes and what to run next; Markdown, the description of the deployment.
        reads: sections and fields of the settings that the flow reads.
        first: parameters at the top of the form, in order: names of `own`, dotted settings, or `preset`.
        own: (type, field) of each parameter that the flow has beside `config`.
        needs: what must be there before a run starts: a manifest of clips, videos, or a folder to watch.
    """

    name: str
    flow: str
    about: str
    reads: tuple[str, ...]
    first: tuple[str, ...]
    own: Mapping[str, tuple[Any, FieldInfo]] = field(default_factory=dict)
    needs: Literal["", "clips", "videos", "folder"] = ""

    @cached_property
    def parameters(self) -> dict[str, _Parameter]:
        """The parameters in the order of the form."""
        made = {parameter_name(name): self._top(name) for name in self.first}
        return made | {name: section for name in SECTIONS if (section := self._section(name))}

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the parameters, as Prefect reads it; its key `form` names this form."""
        fields: dict[str, Any] = {name: (p.kind, p.info) for name, p in self.parameters.items()}
        model: type[BaseModel] = create_model("Parameters", **fields)
        found = model.model_json_schema(ref_template="#/definitions/{model}")
        for position, (name, shown) in enumerate(found["properties"].items()):
            shown["position"] = position
            if name in SECTIONS:  # closed first, since the UI shows what comes first
                shown["anyOf"] = [{"type": "null", "title": "Defaults"}, *shown["anyOf"][:1]]
        _name_kinds(found)
        return {
            "title": "Parameters", "type": "object", "form": self.name, "properties": found["properties"],
            "required": found.get("required", []), "definitions": found.get("$defs", {}),
        }  # fmt: skip

    def settings(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], RunConfig]:
        """Return the flow's own arguments and its settings from the values of a form.

        Raises:
            ConfigError: a parameter is unknown or a value is out of bounds; the sentence of the command line.
            DataError: what the flow needs is not there.
        """
        if unknown := [name for name in values if name not in self.parameters]:
            raise ConfigError(f"form '{self.name}' has no '{unknown[0]:.60}'; it has {', '.join(self.parameters)}")
        places = {parameter_name(name): name for name in self.first}
        own: dict[str, Any] = dict(values.get(MORE) or {})
        given: dict[str, Any] = {}
        for name, value in values.items():
            if name in self.own:
                own[name] = value
            elif name not in (PRESET, MORE) and value is not None:
                place = () if name == LABELS else tuple(places.get(name, name).split("."))
                merge(given, _nested(place, _changed(value, self.parameters[name].default)))
        config = config_from(_preset(values.get(PRESET)), given, "form")
        arguments = self._checked(own)
        if self.needs == "clips":
            check_manifest(config)
        elif self.needs == "videos":
            inputs(arguments.get("paths", ()), config)
        elif self.needs == "folder":
            watched(config)
        return arguments, config

    def _checked(self, own: Mapping[str, Any]) -> dict[str, Any]:
        fields: dict[str, Any] = dict(self.own)
        model: type[BaseModel] = create_model("Own", __config__=_CLOSED, **fields)
        try:
            return dict(model.model_validate(own))
        except ValidationError as exc:
            raise ConfigError(explain(exc, model, dict.fromkeys(self.own, "form"), ())) from exc

    def _top(self, name: str) -> _Parameter:
        if name == PRESET:
            says = "Packaged settings to begin with; empty: none. Values that you change in this form replace theirs."
            empty: Any = Field("", title="Preset", description=says)
            return _Parameter(Literal[("", *PRESETS)], empty, "")
        if name in self.own:
            kind, info = self.own[name]
            return _Parameter(kind, info, info.default)
        kind, info = _of_setting(name)
        return _Parameter(kind, info, _plain(info.default))

    def _section(self, section: str) -> _Parameter | None:
        """Return the closed section of the settings that are not at the top; None if there is none."""
        fields = self._fields_of(section)
        if not fields:
            return None
        model: type[BaseModel] = create_model(
            f"{self.name}-{section}", __config__=ConfigDict(extra="forbid", title="Change"), **fields
        )
        told = [_shown_title(info) for _, info in fields.values()]
        says = ", ".join(told[:SHOWN]) + (", …" if len(told) > SHOWN else "")
        closed: Any = Field(None, title=SECTIONS[section], description=says)
        return _Parameter(model | None, closed, _plain(model()))

    def _fields_of(self, section: str) -> dict[str, Any]:
        if section == MORE:
            return {name: self.own[name] for name in self.own if name not in self.first}
        if section == LABELS:
            return {
                name: _of_setting(name)
                for name in ("classes", "neutral_from")
                if name in self.reads and name not in self.first
            }
        annotation: Any = RunConfig.model_fields[section].annotation
        whole = [f"{section}.{name}" for name in annotation.model_fields] if section in self.reads else []
        names = whole or [name for name in self.reads if name.startswith(f"{section}.")]
        hidden = (*self.first, *HIDDEN)
        return {_short(name): _of_setting(name, hidden) for name in names if name not in hidden}


_CLOSED = ConfigDict(extra="forbid")
_SAME = object()
_KINDS = {"null": "None", "array": "List", "string": "Choice", "number": "Number", "integer": "Number"}


def _of_setting(name: str, hidden: tuple[str, ...] = ()) -> tuple[Any, FieldInfo]:
    """Return (type, field) of a dotted setting with its bounds; of a nested section, without the `hidden` settings."""
    *sections, last = name.split(".")
    model: Any = RunConfig
    for section in sections:
        model = model.model_fields[section].annotation
    info: FieldInfo = model.model_fields[last]
    if nested := _fields(info.annotation):
        inner = [f"{name}.{part}" for part in nested if f"{name}.{part}" not in hidden]
        fields: dict[str, Any] = {_short(part): _of_setting(part, hidden) for part in inner}
        nest: type[BaseModel] = create_model(
            name.replace(".", "-"), __config__=ConfigDict(extra="forbid", title=_title(name)), **fields
        )
        whole: Any = Field(nest(), description=info.description, json_schema_extra={"title": _title(name)})
        return nest, whole
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    told = f"{info.description} (`{name}`)" if info.description else f"`{name}`"
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else None
    return kind, Field(info.default, title=_title(name), description=told, json_schema_extra=extra)


def _fields(kind: Any) -> list[str]:
    """Return the names of the fields of a section; none for another type."""
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _name_kinds(schema: Any) -> None:
    """Give each kind of a value that has several a title, which the UI shows on a button instead of `str` or `list`."""
    if isinstance(schema, dict):
        for kind in schema.get("anyOf", ()):
            if kind.get("type") in _KINDS:
                kind.setdefault("title", _KINDS[kind["type"]])
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _name_kinds(part)


def _shown_title(info: FieldInfo) -> str:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return str(info.title or extra["title"])


def _title(name: str) -> str:
    return TITLES.get(name) or TITLES.get(_short(name)) or _short(name).replace("_", " ").capitalize()


def parameter_name(name: str) -> str:
    """Return the name of the parameter for a dotted setting: `search_trials`."""
    return name.replace(".", "_")


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _plain(value: Any) -> Any:
    """Return a default as JSON has it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _changed(value: Any, default: Any) -> Any:
    """Return `value` without the parts that equal the default; `_SAME` if nothing is left."""
    if isinstance(value, Mapping) and isinstance(default, Mapping):
        changed = {name: _changed(part, default.get(name, _SAME)) for name, part in value.items()}
        return {name: part for name, part in changed.items() if part is not _SAME} or _SAME
    return _SAME if value == default else value


def _nested(place: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `value` at a place of nested sections; empty if it is `_SAME`."""
    if value is _SAME:
        return {}
    for name in reversed(place):
        value = {name: value}
    return dict(value)


def _preset(name: Any) -> Path | None:
    if not name:
        return None
    if name not in PRESETS:
        raise ConfigError(f"form: preset: there is no {str(name)[:60]!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
