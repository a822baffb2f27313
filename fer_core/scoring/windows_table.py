"""The table of verdicts over time, with one row per window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fer_core.emotions import Classes
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import printable


def windows_table(rows: Sequence[ClipScore], classes: Classes, synthetic_trained: bool) -> pa.Table:
    """Return the windows of all clips that have some, in order; `docs/outputs.md` explains the columns.

    Args:
        synthetic_trained: True if the model learnt from drawn or rendered faces.
    """
    found = [(row, row.windows) for row in rows if row.windows is not None]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([np.empty(0), *(getattr(windows, name) for _, windows in found)])

    def number(values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(values, type=kind, from_pandas=True)

    index = joined("index").astype(int)
    shares = np.concatenate([np.empty((0, len(classes))), *(windows.probabilities for _, windows in found)])
    lengths = [len(windows) for _, windows in found]
    clips = [printable(row.clip) for row, _ in found]
    return pa.table(
        {
            "clip": pa.array(np.repeat(np.array(clips, dtype=object), lengths).tolist(), pa.string()),
            "person": number(np.repeat(np.array([row.person for row, _ in found], dtype=int), lengths), pa.int32()),
            "start_s": number(joined("start_s"), pa.float64()),
            "end_s": number(joined("end_s"), pa.float64()),
            "emotion": pa.array([str(classes[i]) if i >= 0 else None for i in index], pa.string()),
            "confidence": number(joined("confidence"), pa.float64()),
            **{str(label): number(shares[:, column], pa.float64()) for column, label in enumerate(classes)},
            "abstained": pa.array(joined("abstained").astype(bool)),
            "frames_used": number(joined("n_used").astype(np.int32), pa.int32()),
            "frames_selected": number(joined("n_selected").astype(np.int32), pa.int32()),
            "synthetic_trained": pa.array(np.full(len(index), synthetic_trained)),
        }
    )
