"""The model as MLflow serves it: `mlflow.pyfunc.load_model("models:/face-emotion@champion").predict(...)`.

MLflow runs this file when a model is logged and when it is loaded; the library is stored with the model, in `code/`.
Loading a model this way runs code from the registry, so the registry must be trusted. `registry.load_champion` does
not.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PyFuncModel, PythonModel

if TYPE_CHECKING:
    from fer_core.scoring.clip_score import ClipScore
    from fer_core.scoring.inputs import Item
    from fer_core.scoring.scorer import ClipScorer
    from fer_core.scoring.windows import Windows

# Packages that the verdicts depend on: OpenCV 5 has no Viola-Jones; older decoders and loaders have security holes.
FLOORS = {"cv2": (4, 12), "av": (18, 1), "torch": (2, 10), "safetensors": (0, 5)}
CEILINGS = {"cv2": (5,)}
FORMAT = 3
# Parameters of predict, with their defaults; see `ScoreConfig`. The signature gives each the type of its default.
PARAMS: dict[str, str | int | float] = {"rule": "auto", "max_frames": -1, "device": "auto", "windows": 0.0}
ROOT = "FERFLOW_SCORE_ROOT"  # folder that must contain every `path`
NEEDS = 'a DataFrame or a list of dicts with a column "path" (of files on this machine) or "video" (bytes)'


class EmotionModel(PythonModel):
    """The MLflow model: clips in, one row each out with path, status, emotion, confidence, probabilities and reason."""

    def load_context(self, context: Any) -> None:
        """Read the model's two files with all checks of `read_bundle`.

        The library must have the same record format as the model. A GPU is used if there is one, unless the model is
        loaded with `load_model(…, model_config={"device": "cpu"})`. Likewise `engine` replaces `auto`, the fastest
        engine that is installed and that the model allows (see `score.engine`).

        Raises:
            ConfigError: the named device does not exist.
            RuntimeError: a package is too old or too new, or another ferflow, imported before, cannot read this model.
        """
        try:
            from fer_core.runtime import prepare_torch
        except ImportError as exc:
            raise RuntimeError(f"{_foreign()} cannot read this model ({exc}); {_REMEDY}") from exc
        prepare_torch()
        check_packages()  # imports torch
        folder = Path(context.artifacts["weights"]).parent
        try:
            from fer_core.models.bundle import read_bundle
            from fer_core.models.engine import on_engine
            from fer_core.models.record import FORMAT as readable
            from fer_core.runtime import resolve_device
            from fer_core.scoring.scorer import ClipScorer
        except ImportError as exc:
            raise RuntimeError(f"{_foreign()} cannot read this model ({exc}); {_REMEDY}") from exc
        if readable != FORMAT:
            raise RuntimeError(f"{_foreign()} reads model format {readable}, this one is {FORMAT}; {_REMEDY}")
        known = context.model_config or {}
        self.folder, self.name, self.version = folder, known.get("name", ""), known.get("version", "")
        self.device = resolve_device(known.get("device", "auto"), "model_config device")
        self.engine = known.get("engine", "auto")
        self.bundles = {self.device: on_engine(read_bundle(folder, device=self.device), self.engine)}
        self.scorer = ClipScorer(self.bundles[self.device], name=self.name, version=self.version, ready=True)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per clip, in order; a clip that cannot be scored has a status and a reason.

        Args:
            model_input: rows with `path`, a video file or frame folder, or `video`, the bytes of a video file. If
                FERFLOW_SCORE_ROOT names a folder, paths are relative to it and must not lead out of it. A server
                without this variable reads no paths.
            params: `max_frames`: most frames of a clip to read; 0: every selected one, -1: the version's budget.
                `rule`: how frames are joined, `auto` or one of `majority_vote`, `mean_scores`, `log_mean_scores`.
                `device`: `cpu`, `cuda`, `mps`, or `auto`, the one that the model was loaded on.
                `windows`: seconds of a window; each row's `windows` then lists the verdicts over time. 0: none.
        Raises:
            MlflowException: input or params have another form, or the model or machine does not support them.
        """
        scorer = self._scorer(_checked(params or {}))
        with tempfile.TemporaryDirectory(prefix="ferflow-clips-") as folder:
            largest = scorer.limits.max_bytes
            items = [_item(row, Path(folder) / f"{i}", largest) for i, row in enumerate(_rows(model_input))]
            records = [_record(row) for row in scorer.score_many(items)]
        table = pd.DataFrame(records, columns=output_columns(scorer.classes))
        return table.astype(object).where(table.notna(), None) if _served() else table  # JSON has null, but no NaN

    def _scorer(self, params: dict[str, Any]) -> ClipScorer:
        """Return a scorer for checked params; all scorers share the model of a device, and the decoding processes."""
        from pydantic import ValidationError

        from fer_core.config import ScoreConfig
        from fer_core.errors import ConfigError
        from fer_core.models.bundle import read_bundle
        from fer_core.models.engine import on_engine
        from fer_core.runtime import resolve_device
        from fer_core.scoring.scorer import ClipScorer

        try:
            cfg = ScoreConfig(**{**params, "windows": {"length_s": params["windows"]}})
            device = self.device if cfg.device == "auto" else resolve_device(cfg.device, "param 'device'")
            if device not in self.bundles:
                self.bundles[device] = on_engine(read_bundle(self.folder, device=device), self.engine)
            return ClipScorer(
                self.bundles[device],
                cfg,
                limits=self.scorer.limits,
                name=self.name,
                version=self.version,
                warm=self.scorer.warm,
            )
        except ValidationError as exc:
            first = exc.errors()[0]
            name, value = first["loc"][0], first["input"]
            raise MlflowException.invalid_parameter_value(f"param {name!r} is {value!r}: {first['msg']}") from exc
        except ConfigError as exc:
            raise MlflowException.invalid_parameter_value(str(exc)) from exc


def check_packages() -> None:
    """Check the versions of the packages that decode clips and load models.

    Raises:
        RuntimeError: a package is outside its supported range.
    """
    import importlib

    for name in FLOORS:
        version = importlib.import_module(name).__version__
        have = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
        if have < FLOORS[name] or have >= CEILINGS.get(name, (10**6,)):
            limits = f">= {'.'.join(map(str, FLOORS[name]))}"
            if name in CEILINGS:
                limits += f", < {'.'.join(map(str, CEILINGS[name]))}"
            raise RuntimeError(f"{name} is {version}, this model needs {limits}; install the model's requirements.txt")


def output_columns(classes: Any) -> list[str]:
    """Return the column names of a prediction."""
    return ["path", "status", "emotion", "confidence", *map(str, classes), "abstained", "frames", "reason", "windows"]


def window_columns(classes: Any) -> list[str]:
    """Return the names of the values of one window in a row's `windows`."""
    return ["start_s", "end_s", "emotion", "confidence", *map(str, classes), "abstained", "frames"]


_REMEDY = "load the model in a fresh process, before any other ferflow is imported"


def _checked(params: dict[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter, given or default; `ScoreConfig` checks the values.

    MLflow drops parameters that the signature does not name, so the caller's own arguments are read from its frame.

    Raises:
        MlflowException: a name is unknown.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not PyFuncModel.predict.__code__:
        frame = frame.f_back
    given = {**params, **((frame.f_locals["params"] or {}) if frame is not None else {})}
    for name in given:
        if name not in PARAMS:
            raise MlflowException.invalid_parameter_value(f"there is no param {name!r}; there are {', '.join(PARAMS)}")
    return PARAMS | given


def _item(row: dict[str, Any], place: Path, max_bytes: int) -> Item:
    from fer_core.clips.clip import Clip
    from fer_core.errors import ClipError, ClipStatus
    from fer_core.scoring.inputs import Item

    path, video = row.get("path"), row.get("video")
    if isinstance(path, str) and path and video is None:
        return _of_path(path)
    if not isinstance(video, bytes | bytearray) or path is not None:
        raise MlflowException.invalid_parameter_value(f"every row needs either a path or a video; needs {NEEDS}")
    clip = Clip(id="(bytes)", path=place)
    if len(video) > max_bytes:
        reason = f"{len(video)} bytes; at most {max_bytes} are accepted (limits.max_bytes)"
        return Item(clip, refused=ClipError(ClipStatus.TOO_LARGE, reason))
    place.write_bytes(video)
    return Item(clip)


def _served() -> bool:
    """Return True in MLflow's scoring server, whose clients must not read this machine's files."""
    return os.environ.get("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "").lower() in ("true", "1")


def _of_path(path: str) -> Item:
    """Return the clip at a path; it is refused if the client may not read the path, whether or not the file exists."""
    from fer_core.errors import ClipError, ClipStatus
    from fer_core.scoring.inputs import named

    folder = os.environ.get(ROOT, "")
    if not folder and not _served():
        return named(path)
    root = Path(folder).resolve()
    item = named(path if "://" in path else str(root / path))
    why = ""
    if not folder:
        why = f"this server reads no paths, {ROOT} is not set; send the video's bytes, or set it to a folder of clips"
    elif not item.clip.path.is_relative_to(root):
        why = f"it lies outside {ROOT}"
    if why and item.refused is None:
        item = replace(item, refused=ClipError(ClipStatus.REJECTED, why))
    return replace(item, clip=replace(item.clip, id=path), root=root)


def _foreign() -> str:
    import fer_core

    return f"ferflow {getattr(fer_core, '__version__', 'of unknown version')} at {Path(fer_core.__file__).parent}"


def _rows(model_input: Any) -> list[dict[str, Any]]:
    if isinstance(model_input, list) and model_input and all(isinstance(row, dict) for row in model_input):
        return model_input
    if not isinstance(model_input, pd.DataFrame) or not {"path", "video"} & set(model_input.columns):
        had = f"columns {list(model_input.columns)}" if isinstance(model_input, pd.DataFrame) else type(model_input)
        raise MlflowException.invalid_parameter_value(f"got {had}; needs {NEEDS}")
    present = model_input[[name for name in ("path", "video") if name in model_input.columns]]
    return [
        {str(k): value for k, value in row.items() if isinstance(value, bytes | bytearray) or not pd.isna(value)}
        for row in present.to_dict("records")
    ]


def _record(row: ClipScore) -> dict[str, Any]:
    from fer_core.scoring.inputs import printable

    return {
        "path": printable(row.clip),
        "status": row.status.value,
        "emotion": str(row.emotion) if row.emotion else None,
        "confidence": row.confidence,
        **row.by_class,
        "abstained": row.abstained,
        "frames": row.n_used,
        "reason": printable(row.reason),
        "windows": None if row.windows is None else _windows(row.windows, row.classes),
    }


def _windows(windows: Windows, classes: Any) -> list[dict[str, Any]]:
    """Return one JSON-able dict for each window; a window without a face has no emotion and no numbers."""
    found = []
    for i, index in enumerate(windows.index):
        face = index >= 0
        values = [float(p) if face else None for p in windows.probabilities[i]]
        times, verdict = (float(windows.start_s[i]), float(windows.end_s[i])), str(classes[index]) if face else None
        confidence = float(windows.confidence[i]) if face else None
        row = [*times, verdict, confidence, *values, bool(windows.abstained[i]), int(windows.n_used[i])]
        found.append(dict(zip(window_columns(classes), row, strict=True)))
    return found


set_model(EmotionModel())
