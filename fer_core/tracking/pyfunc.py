"""The model as MLflow serves it: `mlflow.pyfunc.load_model("models:/face-emotion@champion").predict(...)`.

MLflow runs this file when a model is logged and when it is loaded; the library comes with the model, under `code/`.
Whoever loads a model this way trusts the registry's artifacts to be code; `registry.load_champion` does not need to.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

if TYPE_CHECKING:
    from fer_core.scoring.scorer import ClipScore

# What the verdicts depend on: OpenCV 5 has no Viola-Jones, older decoders and loaders have holes.
FLOORS = {"cv2": (4, 12), "av": (18, 1), "torch": (2, 10), "safetensors": (0, 5)}
CEILINGS = {"cv2": (5,)}
FORMAT = 3
NEEDS = 'a DataFrame or a list of dicts with a column "path" (of files on this machine) or "video" (bytes)'


class EmotionModel(PythonModel):
    """Clips in, a row each out: path, status, emotion, confidence, a probability an emotion, and why."""

    def load_context(self, context: Any) -> None:
        """Read the model's two files, every check of `read_bundle` passed, by the library of the same format.

        Raises:
            RuntimeError: a package is too old or too new, or another ferflow was imported before and reads no such
                model.
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
            from fer_core.models.record import FORMAT as readable
            from fer_core.scoring.scorer import ClipScorer
        except ImportError as exc:
            raise RuntimeError(f"{_foreign()} cannot read this model ({exc}); {_REMEDY}") from exc
        if readable != FORMAT:
            raise RuntimeError(f"{_foreign()} reads model format {readable}, this one is {FORMAT}; {_REMEDY}")
        known = context.model_config or {}
        self.scorer = ClipScorer(read_bundle(folder), name=known.get("name", ""), version=known.get("version", ""))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a clip, in order; a clip that cannot be scored has a status and a reason.

        Args:
            model_input: rows with `path`, a video file or frame folder, or `video`, a video file's bytes.
        Raises:
            TypeError, ValueError: it is something else.
        """
        with tempfile.TemporaryDirectory(prefix="ferflow-clips-") as folder:
            items = [self._item(row, Path(folder) / f"{i}") for i, row in enumerate(_rows(model_input))]
            records = [_record(row) for row in self.scorer.score_many(items)]
        return pd.DataFrame(records, columns=output_columns(self.scorer.classes))

    def _item(self, row: dict[str, Any], place: Path) -> Any:
        from fer_core.clips.clip import Clip
        from fer_core.errors import ClipError, ClipStatus
        from fer_core.scoring.inputs import Item, named

        path, video = row.get("path"), row.get("video")
        if isinstance(path, str) and path and video is None:
            return named(path)
        if not isinstance(video, bytes | bytearray) or path is not None:
            raise ValueError(f"every row needs either a path or a video; needs {NEEDS}")
        limit = self.scorer.limits.max_bytes
        clip = Clip(id="(bytes)", path=place)
        if len(video) > limit:
            reason = f"{len(video)} bytes; at most {limit} are accepted (limits.max_bytes)"
            return Item(clip, refused=ClipError(ClipStatus.TOO_LARGE, reason))
        place.write_bytes(video)
        return Item(clip)


def check_packages() -> None:
    """Raise RuntimeError when a package that decodes or loads is outside its known range."""
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
    """Columns of a prediction."""
    return ["path", "status", "emotion", "confidence", *map(str, classes), "abstained", "frames", "reason"]


_REMEDY = "load the model in a fresh process, before any other ferflow is imported"


def _foreign() -> str:
    import fer_core

    return f"ferflow {getattr(fer_core, '__version__', 'of unknown version')} at {Path(fer_core.__file__).parent}"


def _rows(model_input: Any) -> list[dict[str, Any]]:
    if isinstance(model_input, list) and model_input and all(isinstance(row, dict) for row in model_input):
        return model_input
    if not isinstance(model_input, pd.DataFrame) or not {"path", "video"} & set(model_input.columns):
        had = f"columns {list(model_input.columns)}" if isinstance(model_input, pd.DataFrame) else type(model_input)
        raise TypeError(f"got {had}; needs {NEEDS}")
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
