"""Image files as MLflow's image grid shows them, under names that are the same whenever they are logged."""

from __future__ import annotations

import io
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_AT_MS = 1767225600000  # any fixed time: with `log_image`, a picture that is logged again would be there twice


def grid_images(image: np.ndarray, key: str) -> dict[str, bytes]:
    """Return path -> content of the two files of an image at step 0: the picture, and a small copy for thumbs.

    Args:
        image: (h, w, 3) uint8 RGB.
        key: the image's name; runs are compared by images of one name.
    """
    from mlflow.tracking.multimedia import compress_image_size
    from PIL import Image

    picture = Image.fromarray(image)
    name = f"images/{key}+step+0+timestamp+{_AT_MS}+{uuid.uuid5(uuid.NAMESPACE_OID, key)}"
    return {
        f"{name}.png": _bytes(picture, "PNG"),
        f"{name}+compressed.webp": _bytes(compress_image_size(picture), "WEBP"),
    }


def _bytes(picture: object, kind: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind)  # type: ignore[attr-defined]
    return content.getvalue()
