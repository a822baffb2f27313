"""What a verdict rests on: the frames that decided it, and where in their faces the model found it."""

from __future__ import annotations

import cv2
import numpy as np

from fer_core.model.bundle import ModelBundle
from fer_core.model.grad_cam import grad_cam

_STRENGTH = 0.45  # of the colour over the face, at most
_QUALITY = 85


def margins(scores: np.ndarray, winner: int) -> np.ndarray:
    """(n,) what each frame adds to the verdict: its score of the winner less that of the clip's runner-up.

    Their mean is the margin by which the mean of the scores decides; a frame below 0 speaks against it.

    Args:
        scores: (n, k) frame scores, n >= 1, k >= 2. winner: column of the verdict.
    """
    others = scores.mean(axis=0)
    others[winner] = -np.inf
    return np.asarray(scores[:, winner] - scores[:, int(others.argmax())])


def decisive(scores: np.ndarray, winner: int, n: int) -> np.ndarray:
    """(m,) places of the n frames that add most to the verdict, in the order of time; m < n where there are fewer."""
    return np.sort(np.argsort(-margins(scores, winner), kind="stable")[:n])


def explain(bundle: ModelBundle, faces: np.ndarray, column: int) -> bytes:
    """JPEG of faces side by side, warm where Grad-CAM finds the class of `column`.

    Args:
        faces: (n, size, size) uint8, n >= 1.
    """
    heat = grad_cam(bundle.backbone, bundle.head, faces, column)
    pictures = [_warmed(face, warmth) for face, warmth in zip(faces, heat, strict=True)]
    return bytes(cv2.imencode(".jpg", np.hstack(pictures), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def shrunk(jpeg: bytes, height: int) -> bytes:
    """The picture at another height, JPEG again."""
    picture = cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None  # made by `explain`
    width = round(picture.shape[1] * height / picture.shape[0])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _warmed(face: np.ndarray, warmth: np.ndarray) -> np.ndarray:
    """(size, size, 3) BGR: the grey face, a colour laid over it that grows with the warmth."""
    colour = cv2.applyColorMap((255 * warmth).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = _STRENGTH * warmth[..., None]
    return ((1 - share) * face[..., None] + share * colour).astype(np.uint8)
