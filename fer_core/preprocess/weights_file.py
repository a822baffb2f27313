"""Small published networks that preprocessing runs with OpenCV: their folder, and their bytes after a check.

`features.known_weights` downloads them (`ferflow weights fetch`). A decoding child has no home folder, so its parent
passes the folder in $FERFLOW_WEIGHTS.
"""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from fer_core.config import PreprocessConfig
from fer_core.errors import ConfigError, WeightsError

FOLDER = "FERFLOW_WEIGHTS"  # environment variable
SHA256 = {
    "blazeface": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face-landmarks": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}


def weights_folder() -> Path:
    """Return the folder of downloaded weights: $FERFLOW_WEIGHTS, otherwise ferflow's `weights` in the user cache."""
    if given := os.environ.get(FOLDER):
        return Path(given)
    from platformdirs import user_cache_path

    return user_cache_path("ferflow") / "weights"


def tflite(name: str) -> bytes:
    """Return the bytes of a network in TensorFlow Lite format.

    Raises:
        WeightsError: the file is missing, or its bytes are not the published ones.
    """
    return _read(weights_folder() / f"{name}.tflite", name)


def check_weights(cfg: PreprocessConfig, *, points: bool = False) -> None:
    """Refuse settings whose networks are not on this machine, before any work.

    Args:
        points: True if a model reads landmarks.
    Raises:
        WeightsError: a network was not fetched, or is damaged. ConfigError: landmarks are switched off.
    """
    if cfg.face.detector == "blazeface":
        tflite("blazeface")
    if points and cfg.face.landmarks == "no":
        raise ConfigError("the model reads landmarks, but preprocess.face.landmarks is 'no'; set it to auto")
    if points or cfg.face.landmarks == "yes" or cfg.align == "eyes":
        tflite("face-landmarks")


@cache
def _read(path: Path, name: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise WeightsError(_remedy(name, "are not on this machine", path)) from exc
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise WeightsError(_remedy(name, "are damaged", path))
    return content


def _remedy(name: str, state: str, path: Path) -> str:
    return f"the weights of {name} {state} ({path}); fetch them with 'ferflow weights fetch {name}'"
