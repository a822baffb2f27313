"""Explain a prediction by the decisive frames, the regions of their faces, and the points that moved."""

from __future__ import annotations

import cv2
import numpy as np

from fer_core.features.backbone import Mirrored
from fer_core.features.descriptors.catalogue import DISPLACEMENT, LANDMARKS
from fer_core.features.descriptors.motion import tracked_points
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL
from fer_core.features.torch_backbone import TorchBackbone
from fer_core.models.bundle import ModelBundle
from fer_core.models.fc_head import HeadClassifier
from fer_core.models.grad_cam import grad_cam
from fer_core.models.svm import SupportVectorsClassifier
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.landmarks import LEFT_EYE, RIGHT_EYE, eye_centre

_STRENGTH = 0.45  # largest opacity of the colours over the face
_QUALITY = 85
_ENLARGED = 4  # factor by which displacements are enlarged
_MANY = 200  # points from which they are drawn smaller
_FOR, _AGAINST = (38, 150, 255), (200, 200, 200)  # BGR


def explainable(bundle: ModelBundle) -> bool:
    """True if a verdict of the model can be explained: by Grad-CAM through FC layers, or by tracked points."""
    return head_of(bundle) is not None or motion_of(bundle) is not None


def margins(scores: np.ndarray, winner: int) -> np.ndarray:
    """Return (n,) margins of the frames: score of the predicted class minus that of the clip's second-best class.

    Their mean is the margin of the mean scores. A frame with a negative margin is evidence against the prediction.

    Args:
        scores: (n, k) frame scores, n >= 1, k >= 2.
        winner: index of the predicted class.
    """
    others = scores.mean(axis=0)
    others[winner] = -np.inf
    return np.asarray(scores[:, winner] - scores[:, int(others.argmax())])


def decisive(scores: np.ndarray, winner: int, n: int) -> np.ndarray:
    """Return indices of the n frames with the largest margins, in order of time; fewer if there are fewer frames."""
    return np.sort(np.argsort(-margins(scores, winner), kind="stable")[:n])


def head_of(bundle: ModelBundle) -> HeadClassifier | None:
    """Return the part of a model with FC layers, which Grad-CAM needs.

    None if there is no such part, or if the backbone is not a single torch network.
    """
    network = bundle.backbone.network if isinstance(bundle.backbone, Mirrored) else bundle.backbone
    if not isinstance(network, TorchBackbone):
        return None
    return next((part for part in bundle.classifier.parts if isinstance(part, HeadClassifier)), None)


def motion_of(bundle: ModelBundle) -> SupportVectorsClassifier | None:
    """Return the part of a model that reads how points move, landmarks before grid points; None if there is none."""
    vectors = [part for part in bundle.classifier.parts if isinstance(part, SupportVectorsClassifier)]
    read = (part for name in (LANDMARKS.name, DISPLACEMENT.name) for part in vectors if name in part.descriptors)
    return next(read, None)


def warmed(
    bundle: ModelBundle, head: HeadClassifier, faces: np.ndarray, column: int, inputs: ClipInputs
) -> list[np.ndarray]:
    """Return (size, size, 3) BGR pictures of faces, coloured by the Grad-CAM heat map of the class `column`.

    Args:
        faces: (n, size, size) uint8.
        inputs: what the model read of the clip.
    """
    if not len(faces):
        return []
    neutral = inputs.described[NEUTRAL][0] if head.reads_neutral else None
    assert bundle.backbone is not None
    heat = grad_cam(bundle.backbone, head.head, faces, column, neutral)
    return [_warmed(face, warmth) for face, warmth in zip(faces, heat, strict=True)]


def moved(motion: SupportVectorsClassifier, ways: np.ndarray, course: Faces, column: int) -> np.ndarray:
    """Return a (size, size, 3) BGR picture of a face with enlarged displacements; orange ones support the class.

    Args:
        ways: (p, 2) or (p, 3) displacements.
        course: faces of the clip; the last one is shown.
        column: index of the class.
    """
    face = course.pixels[-1]
    size = len(face)
    added = motion.speaking_for(ways.reshape(-1), column).reshape(ways.shape).sum(axis=1)
    starts, ways = _on_face(motion, ways, course)
    picture = cv2.cvtColor(face, cv2.COLOR_GRAY2BGR)
    shares = np.maximum(added / max(float(added.max()), 1e-9), 0.0)
    radius = 24 if len(ways) < _MANY else 12  # sixteenths of a pixel
    for i in np.argsort(shares, kind="stable"):  # what supports the class is drawn over the rest
        way, share = ways[i] * size * _ENLARGED, float(shares[i])
        a, b = ((16 * point).round().astype(int).tolist() for point in (starts[i] * size, starts[i] * size + way))
        colour = [round(share * f + (1 - share) * n) for f, n in zip(_FOR, _AGAINST, strict=True)]
        cv2.line(picture, a, b, colour, 2 if share > 0.5 else 1, cv2.LINE_AA, shift=4)
        cv2.circle(picture, b, radius, colour, -1, cv2.LINE_AA, shift=4)
    return picture


def _on_face(motion: SupportVectorsClassifier, ways: np.ndarray, course: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Return (p, 2) starts and displacements of the points on the last face: right, down, in sides of the face."""
    if motion.record.descriptor == DISPLACEMENT.name:
        return tracked_points(), ways
    _, _, width, height = course.ledger.box[course.ledger.used][-1].tolist()
    stretch = np.array([1, width / max(height, 1)])  # faces are square, boxes at the frame's border are not
    last = course.points[-1].astype(np.float64)
    eye_distance = np.linalg.norm(eye_centre(last, LEFT_EYE) - eye_centre(last, RIGHT_EYE))
    ways = ways[:, :2] * eye_distance
    return 0.5 + (last[:, :2] - ways) * stretch, ways * stretch


def strip(pictures: list[np.ndarray]) -> bytes:
    """Return a JPEG of pictures of equal size, side by side; empty if there are none."""
    if not pictures:
        return b""
    return bytes(cv2.imencode(".jpg", np.hstack(pictures), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def shrunk(jpeg: bytes, height: int) -> bytes:
    """Resize a JPEG picture to a height in pixels."""
    picture = cv2.imdecode(np.frombuffer(jpeg, dtype=np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None  # made by `strip`
    width = round(picture.shape[1] * height / picture.shape[0])
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _warmed(face: np.ndarray, warmth: np.ndarray) -> np.ndarray:
    """Return (size, size, 3) BGR: the grey face with a heat map over it, more opaque where it is hotter."""
    colour = cv2.applyColorMap((255 * warmth).astype(np.uint8), cv2.COLORMAP_INFERNO)
    share = _STRENGTH * warmth[..., None]
    return ((1 - share) * face[..., None] + share * colour).astype(np.uint8)
