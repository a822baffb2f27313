"""Check that a packed model, loaded by MLflow in a new process, predicts the same scores as the model here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from fer_core.emotions import Emotion
from fer_core.errors import RegistryError
from fer_core.models.bundle import ModelBundle
from fer_core.scoring.scorer import ClipScorer

TOLERANCE = 1e-4
_LIMIT_S = 600
_CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1], model_config={"device": "cpu", "engine": "torch"})  # as here
rows = model.predict(pd.DataFrame({"path": [sys.argv[2]]}))
library = sys.modules["fer_core"].__file__
assert library.startswith(sys.argv[1]), f"it ran {library}, not the library packed with it"
print("\\nrow " + rows.iloc[0].to_json())
"""


def prove_parity(packed: Path, bundle: ModelBundle) -> float:
    """Return the largest difference in probabilities between a new process and this one, for a drawn clip.

    Raises:
        RegistryError: the predictions differ, the difference is too large, or the packed model does not load.
    """
    with tempfile.TemporaryDirectory(prefix="ferflow-parity-") as folder:
        clip = Path(folder) / "drawn.mp4"
        _draw(clip)
        ours = ClipScorer(bundle).score(clip)
        try:
            # -P and another folder, so that the process imports neither this checkout nor files of the current folder
            child = subprocess.run(
                [sys.executable, "-P", "-c", _CHILD, str(packed), str(clip)],
                cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S, stdin=subprocess.DEVNULL, check=True,
            )  # fmt: skip
        except subprocess.CalledProcessError as exc:
            last = (exc.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise RegistryError(f"the packed model does not load in a fresh process: {last[:300]}") from exc
        except subprocess.TimeoutExpired as exc:
            raise RegistryError(f"the packed model gave no score within {_LIMIT_S} s") from exc
    theirs = json.loads(child.stdout.rpartition("\nrow ")[2])
    if ours.probabilities is None or (theirs["status"], theirs["emotion"]) != (ours.status.value, ours.emotion):
        raise RegistryError(
            f"a fresh process says {theirs['status']} {theirs['emotion']} of the proof clip, this one "
            f"{ours.status.value} {ours.emotion} ({theirs['reason'] or ours.reason}); the model is not registered"
        )
    worst = float(np.abs(ours.probabilities - [theirs[str(c)] for c in bundle.classes]).max())
    if worst > TOLERANCE:
        raise RegistryError(f"a fresh process differs by {worst:.2g} from this one; at most {TOLERANCE:g} is accepted")
    return worst


def _draw(path: Path) -> None:
    """Write a clip of a drawn smiling face, which is always available and shows no real person."""
    from fer_core.clips.synthetic import draw_clip

    pictures = list(draw_clip(0, 0, Emotion.HAPPINESS))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.height, stream.width = pictures[0].shape[:2]
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
