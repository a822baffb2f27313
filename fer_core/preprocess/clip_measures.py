"""Measures of clips from their ledgers, collected one clip at a time."""

from __future__ import annotations

from array import array

import numpy as np

from fer_core.preprocess.faces import Ledger


class ClipMeasures:
    """Three numbers per clip at most; `values` is measure -> numbers, NaN where a clip's is unknown.

    The measures are `face_size` (median width in pixels), `brightness` (mean of the face, 0 to 255) and `no_face`
    (share of frames without a face).
    """

    def __init__(self) -> None:
        self.values = {name: array("d") for name in ("face_size", "brightness", "no_face")}

    def add(self, ledger: Ledger) -> None:
        """Add a clip; a ledger without frames adds nothing."""
        if not len(ledger):
            return
        used = ledger.used
        self.values["no_face"].append(1 - float(used.mean()))
        if used.any():
            self.values["face_size"].append(float(np.median(ledger.box[used][:, 2])))
            self.values["brightness"].append(float(np.mean(ledger.brightness[used])))
