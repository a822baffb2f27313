"""BlazeFace (Bazarevsky et al. 2019, arXiv:1907.05047), MediaPipe's short-range face detector, run by OpenCV.

The network reads the whole frame, resized to 128 x 128. For each of 896 anchors it returns a score and the offsets of a
box and six points. They are decoded as in MediaPipe's graph `face_detection_short_range`.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np

from fer_core.preprocess.weights_file import tflite

SIDE = 128  # side of the input in pixels
GRIDS = ((16, 2), (8, 6))  # cells per side, anchors per cell: 16 x 16 x 2 + 8 x 8 x 6 = 896
LEAST = 0.0  # boxes with smaller log odds are dropped, as in MediaPipe
SAME_FACE = 0.3  # boxes with at least this IoU are averaged as one face

_local = threading.local()


def boxes(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detect the faces in a grey picture, the most certain first.

    Args:
        picture: (height, width) uint8.
    Returns:
        (n, 4) float64 boxes x, y, width, height in pixels, from the brows to the chin, which may extend beyond the
        picture; (n,) float64 log odds that each is a face.
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
    """Return (896, 2) centres x, y of the anchors, 0 ... 1, cell by cell and row by row."""
    centres = []
    for n, each in GRIDS:
        y, x = np.divmod(np.arange(n * n), n)
        centres.append(np.repeat(np.stack([x, y], axis=1) + 0.5, each, axis=0) / n)
    return np.concatenate(centres)


def _decoded(odds: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 4) boxes x, y, width, height as shares of the input, and their (n,) log odds.

    A face whose eyes are one above the other is not returned: `pipeline.faces_of` rotates a sideways clip.
    """
    across, down = (offsets[:, 6:8] - offsets[:, 4:6]).T  # from the right eye to the left
    seen = np.flatnonzero((odds >= LEAST) & (np.abs(across) > np.abs(down)))
    centre = anchors()[seen] + offsets[seen, :2] / SIDE
    size = offsets[seen, 2:4] / SIDE
    return np.hstack([centre - size / 2, size]), odds[seen]


def _joined(found: np.ndarray, odds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the boxes of each face into their mean, weighted by probability, with the highest log odds."""
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
    """Return (n,) intersection over union of one box with (n, 4) others."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[:2] + one[2:], others[:, :2] + others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    overlap: np.ndarray = common / (one[2] * one[3] + np.prod(others[:, 2:], axis=1) - common)
    return overlap


def _network() -> cv2.dnn.Net:
    """Return the network of this thread; a shared one would mix up the inputs of threads."""
    net = getattr(_local, "net", None)
    if net is None:
        net = cv2.dnn.readNetFromTFLite(np.frombuffer(tflite("blazeface"), np.uint8))
        _local.net = net
    return net
