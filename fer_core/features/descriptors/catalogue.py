"""All descriptors by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from fer_core.features.descriptors.descriptor import Descriptor, Source
from fer_core.features.descriptors.motion import displacement, gradient_histograms, is_still
from fer_core.features.descriptors.texture import has_no_change, texture, texture_change
from fer_core.features.descriptors.volume import volume

TEXTURE = Descriptor("texture", "expression", texture)
TEXTURE_CHANGE = Descriptor("texture_change", "course", texture_change, signed=True, says_nothing=has_no_change)
DISPLACEMENT = Descriptor("displacement", "course", displacement, signed=True, says_nothing=is_still)
GRADIENTS = Descriptor("gradients", "course", gradient_histograms)
VOLUME = Descriptor("volume", "course", volume)
DESCRIPTORS = {d.name: d for d in (TEXTURE, TEXTURE_CHANGE, DISPLACEMENT, GRADIENTS, VOLUME)}


def _known(name: str) -> str:
    if name not in DESCRIPTORS:
        raise ValueError(f"there is no descriptor {name[:60]!r}; there are {', '.join(DESCRIPTORS)}")
    return name


DescriptorName = Annotated[str, AfterValidator(_known)]


def of_course(names: Iterable[str]) -> bool:
    """True if any of these descriptors reads the faces of a clip's whole course."""
    return any(DESCRIPTORS[name].source == "course" for name in names)


def describe(names: Iterable[str], faces: Mapping[Source, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute name -> (1, ...) descriptor of one clip.

    Args:
        faces: source -> (n, size, size) uint8 faces, n >= 1; only the sources that the descriptors read are needed.
    """
    return {name: DESCRIPTORS[name].describe(faces[DESCRIPTORS[name].source])[None] for name in names}
