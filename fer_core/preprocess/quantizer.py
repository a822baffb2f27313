"""How strongly a video is compressed, by the quantizer of its frames, which FFmpeg's H.264 decoder reports.

The loop filter of H.264 smooths the edges of blocks, so strong compression cannot be seen in the pictures themselves.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

DECODER_OPTIONS = {"export_side_data": "venc_params"}
FLAG = "strong_compression"
STRONG = 34  # of 0 ... 51; x264 at its default, crf 23, gives 24 to 28, and at crf 38 gives 38
_SCALE_0_51 = "h264"  # other codecs have other scales
_HEAD = struct.Struct("@INNii")  # AVVideoEncParams: blocks, their place and size, kind, quantizer


def quantizer(frame: av.VideoFrame, codec: str) -> int | None:
    """Return the quantizer of a decoded frame, 0 ... 51; None if it is unknown or of another codec."""
    if codec != _SCALE_0_51:
        return None
    # not `frame.side_data`: the frame and what it returns would refer to each other, and not be freed at once
    found: Any = SideDataContainer(frame).get("VIDEO_ENC_PARAMS")  # type: ignore[call-arg]
    return None if found is None else int(_HEAD.unpack_from(bytes(found))[4])


def is_strong(quantizers: Sequence[int]) -> bool:
    """True if the median quantizer of a clip's frames takes away what tells expressions apart."""
    return len(quantizers) > 0 and float(np.median(quantizers)) >= STRONG
