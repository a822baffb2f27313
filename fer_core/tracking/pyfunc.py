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
    from fer_core.scoring.inputs import Item
    from fer_core.scoring.scorer import ClipScore

# Packages that the verdicts depend on: OpenCV 5 has no Viola-Jones; older decoders and loaders have security holes.
FLOORS = {"cv2": (4, 12), "av": (18, 1), "torch": (2, 10), "safetensors": (0, 5)}
CEILINGS = {"cv2": (5,)}
FORMAT = 3
PARAMS = {"frames": ("auto", "all")}  # parameters of predict: name -> choices, the default first; see `ScoreConfig`
ROOT = "FERFLOW_SCORE_ROOT"  # folder that must contain every `path`
NEEDS = 'a DataFrame or a list of dicts with a column "path" (of files on this machine) or "video" (bytes)'


class EmotionModel(PythonModel):
    """The MLflow model: clips in, one row each out with path, status, emotion, confidence, probabilities and reason."""

    def load_context(self, context: Any) -> None:
        """Read the model's two files with all checks of `read_bundle`.

        The library must have the same record format as the model. A GPU is used if there is one, unless the model is
        loaded with `load_model(…, model_config={"device": "cpu"})`.

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
            from fer_core.config import ScoreConfig
            from fer_core.models.bundle import read_bundle
            from fer_core.models.record import FORMAT as readable
            from fer_core.runtime import resolve_device
            from fer_core.scoring.scorer import ClipScorer
        except ImportError as exc:
            raise RuntimeError(f"{_foreign()} cannot read this model ({exc}); {_REMEDY}") from exc
        if readable != FORMAT:
            raise RuntimeError(f"{_foreign()} reads model format {readable}, this one is {FORMAT}; {_REMEDY}")
        known = context.model_config or {}
        device = resolve_device(known.get("device", "auto"), "model_config device")
        bundle = read_bundle(folder, device=device)
        self.scorers = {
            frames: ClipScorer(
                bundle, ScoreConfig(frames=frames), name=known.get("name", ""), version=known.get("version", "")
            )
            for frames in PARAMS["frames"]
        }

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row per clip, in order; a clip that cannot be scored has a status and a reason.

        Args:
            model_input: rows with `path`, a video file or frame folder, or `video`, the bytes of a video file. If
                FERFLOW_SCORE_ROOT names a folder, paths are relative to it and must not lead out of it. A server
                without this variable reads no paths.
            params: `frames`: `all` reads every selected frame of a clip, `auto` as many as in training.
        Raises:
            MlflowException: input or params have another form.
        """
        scorer = self.scorers[_checked(params or {})["frames"]]
        with tempfile.TemporaryDirectory(prefix="ferflow-clips-") as folder:
            largest = scorer.limits.max_bytes
            items = [_item(row, Path(folder) / f"{i}", largest) for i, row in enumerate(_rows(model_input))]
            records = [_record(row) for row in scorer.score_many(items)]
        table = pd.DataFrame(records, columns=output_columns(scorer.classes))
        return table.astype(object).where(table.notna(), None) if _served() else table  # JSON has null, but no NaN


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
    return ["path", "status", "emotion", "confidence", *map(str, classes), "abstained", "frames", "reason"]


_REMEDY = "load the model in a fresh process, before any other ferflow is imported"


def _checked(params: dict[str, Any]) -> dict[str, Any]:
    """Return the value of every parameter, given or default.

    MLflow drops parameters that the signature does not name, so the caller's own arguments are read from its frame.

    Raises:
        MlflowException: a name or a value is unknown.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not PyFuncModel.predict.__code__:
        frame = frame.f_back
    given = {**params, **((frame.f_locals["params"] or {}) if frame is not None else {})}
    for name, value in given.items():
        if name not in PARAMS:
            raise MlflowException.invalid_parameter_value(f"there is no param {name!r}; there are {', '.join(PARAMS)}")
        if value not in PARAMS[name]:
            raise MlflowException.invalid_parameter_value(
                f"param {name!r} is {value!r}; it may be {' or '.join(PARAMS[name])}"
            )
    return {name: choices[0] for name, choices in PARAMS.items()} | given


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

    shares = [float("nan")] * len(row.classes) if row.probabilities is None else row.probabilities.tolist()
    return {
        "path": printable(row.clip),
        "status": row.status.value,
        "emotion": str(row.emotion) if row.emotion else None,
        "confidence": row.confidence,
        **{str(c): p for c, p in zip(row.classes, shares, strict=True)},
        "abstained": row.abstained,
        "frames": row.n_used,
        "reason": printable(row.reason),
    }


set_model(EmotionModel())
