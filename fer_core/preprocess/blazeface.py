"""BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047), MediaPipe's short-range face detector, run by OpenCV.

The network looks at the whole frame shrunk to 128 x 128. Each of its 896 anchors gives a score and the offsets of a box
and of six points; they are decoded here as MediaPipe's graph `face_detection_short_range` does.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from fer_core.preprocess.weights_file import tflite

SIDE = 128  # of the input, pixels
GRIDS = ((16, 2), (8, 6))  # cells a side, anchors a cell: 16 x 16 x 2 + 8 x 8 x 6 = 896
LEAST = 0.0  # log odds under which a box is dropped, as MediaPipe does
SAME_FACE = 0.3  # IoU from which boxes are of one face and are averaged

_local = threading.local()


def check_weights() -> None:
    """Raises WeightsError when the network was not fetched, or is damaged."""
    tflite("blazeface")


def boxes(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a grey picture, surest first.

    Args:
        picture: (height, width) uint8.
    Returns:
        (n, 4) float64 boxes x, y, width, height in pixels of the picture, from the brows to the chin, which may reach
        over its border; (n,) float64 log odds that each is a face.
    Raises:
        WeightsError: the network was not fetched, or is damaged.
    """
    height, width = picture.shape
    side = max(height, width)
    small = cv2.resize(picture, (round(width * SIDE / side), round(height * SIDE / side)), interpolation=cv2.INTER_AREA)
    left, top = (SIDE - small.shape[1]) // 2, (SIDE - small.shape[0]) // 2
    square = np.zeros((SIDE, SIDE), np.uint8)  # black bars, as MediaPipe adds them
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    net = _network()
    net.setInput(np.broadcast_to(square.astype(np.float32) / 127.5 - 1, (1, 3, SIDE, SIDE)).copy())
    odds, offsets = (out[0] for out in net.forward(("classificators", "regressors")))
    found, log_odds = _joined(*_decoded(odds[:, 0].astype(np.float64), offsets.astype(np.float64)))
    found = (found * SIDE - (left, top, 0, 0)) * (side / SIDE)
    return found, log_odds


def anchors() -> np.ndarray:
    """(896, 2) centres x, y of the anchors, 0 ... 1: those of a cell together, cells row by row."""
    centres = []
    for n, each in GRIDS:
        y, x = np.divmod(np.arange(n * n), n)
        centres.append(np.repeat(np.stack([x, y], axis=1) + 0.5, each, axis=0) / n)
    return np.concatenate(centres)


def _decoded(odds: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) boxes x, y, width, height as shares of the input, and (n,) log odds, of the anchors that saw a face.

    A face whose eyes lie one above the other is on its side, and none here: `pipeline.faces_of` turns such a clip.
    """
    across, down = (offsets[:, 6:8] - offsets[:, 4:6]).T  # from the right eye to the left
    seen = np.flatnonzero((odds >= LEAST) & (np.abs(across) > np.abs(down)))
    centre = anchors()[seen] + offsets[seen, :2] / SIDE
    size = offsets[seen, 2:4] / SIDE
    return np.hstack([centre - size / 2, size]), odds[seen]


def _joined(found: np.ndarray, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One box a face: the mean of all that overlap with the surest, weighted by probability; and the surest's odds."""
    joined, best = [], []
    left = np.argsort(-odds, kind="stable")
    while len(left):
        same = _overlaps(found[left[0]], found[left]) > SAME_FACE
        same[0] = True
        weights = 1 / (1 + np.exp(-odds[left[same]]))
        joined.append(weights @ found[left[same]] / weights.sum())
        best.append(odds[left[0]])
        left = left[~same]
    return np.array(joined).reshape(-1, 4), np.array(best)


def _overlaps(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of a box with (n, 4) others."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[:2] + one[2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    overlap: np.ndarray = common / (one[2] * one[3] + np.prod(others[:, 2:], axis=1) - common)
    return overlap


def _network() -> cv2.dnn.Net:
    """This thread's network: a shared one mixes up its inputs."""
    net = getattr(_local, "net", None)
    if net is None:
        net = cv2.dnn.readNetFromTFLite(np.frombuffer(tflite("blazeface"), np.uint8))
        _local.net = net
    return net
