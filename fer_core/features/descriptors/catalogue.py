"""All descriptors by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from fer_core.features.descriptors.descriptor import Descriptor, Source
from fer_core.features.descriptors.landmarks import landmark_displacement, landmarks_are_still
from fer_core.features.descriptors.motion import displacement, gradient_histograms, is_still
from fer_core.features.descriptors.texture import has_no_change, texture, texture_change
from fer_core.features.descriptors.volume import volume

TEXTURE = Descriptor("texture", "expression", texture, (49, 59))
TEXTURE_CHANGE = Descriptor(
    "texture_change", "course", texture_change, (49, 59), signed=True, says_nothing=has_no_change
)
DISPLACEMENT = Descriptor("displacement", "course", displacement, (144, 2), signed=True, says_nothing=is_still)
GRADIENTS = Descriptor("gradients", "course", gradient_histograms, (108, 12))
LANDMARKS = Descriptor(
    "landmarks", "points", landmark_displacement, (468, 3), signed=True, says_nothing=landmarks_are_still
)
VOLUME = Descriptor("volume", "course", volume, (16, 56, 56))
DESCRIPTORS = {d.name: d for d in (TEXTURE, TEXTURE_CHANGE, DISPLACEMENT, GRADIENTS, LANDMARKS, VOLUME)}


def _known(name: str) -> str:
    if name not in DESCRIPTORS:
        raise ValueError(f"there is no descriptor {name[:60]!r}; there are {', '.join(DESCRIPTORS)}")
    return name


DescriptorName = Annotated[str, AfterValidator(_known)]


def of_course(names: Iterable[str]) -> bool:
    """True if any of these descriptors reads a clip's whole course: its faces or their landmarks."""
    return any(DESCRIPTORS[name].of_course for name in names)


def of_points(names: Iterable[str]) -> bool:
    """True if any of these descriptors reads landmarks."""
    return any(DESCRIPTORS[name].source == "points" for name in names)


def describe(names: Iterable[str], faces: Mapping[Source, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute name -> (1, ...) descriptor of one clip.

    Args:
        faces: source -> (n, size, size) uint8 faces or (n, 468, 3) landmarks, n >= 1; only the sources that the
            descriptors read are needed.
    """
    return {name: DESCRIPTORS[name].describe(faces[DESCRIPTORS[name].source])[None] for name in names}
