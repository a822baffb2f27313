"""Select the frames of a clip (thesis §3.5.1): cut at the apex, take the second half, then limit their rate and
number."""

from __future__ import annotations

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.errors import ClipError, ClipStatus


def select(n_frames: int, apex: int | None, cfg: PreprocessConfig, fps: float = 0.0) -> np.ndarray:
    """Return (m,) int32 ascending indices (from 0) of the frames to use; the last one is the apex; m >= 1.

    The thesis uses frames n/2 ... n: of n frames counted from 0, those with i >= n // 2. So of one frame, this frame is
    kept; of two, the second; of three, the second and third. `max_frames` keeps evenly spaced frames, with the last
    one; for the whole course (`all`) also the first one, in which the face is neutral.

    Args:
        n_frames: number of decoded frames, >= 1.
        apex: index of the last frame to use; None: the clip is not cut.
        fps: frames per second of the clip; 0 if unknown, and then `frames_per_s` leaves out no frame.

    Raises:
        ClipError: the apex is after the last frame (damaged).

    Example:
        >>> from fer_core.config import PreprocessConfig
        >>> select(8, apex=None, cfg=PreprocessConfig(max_frames=0)).tolist()
        [4, 5, 6, 7]
        >>> select(8, apex=5, cfg=PreprocessConfig(max_frames=2)).tolist()
        [4, 5]
    """
    if apex is not None:
        if apex >= n_frames:
            raise ClipError(
                ClipStatus.DAMAGED, f"its apex is frame {apex} (counted from 0), but only {n_frames} frames decoded"
            )
        n_frames = apex + 1
    first = n_frames // 2 if cfg.selection == "second_half" else 0
    frames = np.arange(first, n_frames, dtype=np.int32)
    if cfg.frames_per_s and fps > cfg.frames_per_s:
        back = np.floor(np.arange(0, len(frames), fps / cfg.frames_per_s)).astype(np.int64)
        frames = frames[::-1][back][::-1]
    return frames[spread(len(frames), cfg.max_frames, both_ends=cfg.selection == "all")] if cfg.max_frames else frames


def spread(n: int, most: int, *, both_ends: bool = False) -> np.ndarray:
    """Return at most `most` evenly spaced indices of n frames, ascending, with the last frame.

    Args:
        both_ends: also with the first frame.

    Example:
        >>> spread(8, 4).tolist(), spread(8, 4, both_ends=True).tolist(), spread(3, 4).tolist()
        ([1, 3, 5, 7], [0, 2, 5, 7], [0, 1, 2])
    """
    if n <= most:
        return np.arange(n)
    back = np.rint(np.linspace(0, n - 1, most)) if both_ends else np.floor(np.arange(most) * (n / most))
    return n - 1 - back.astype(np.int64)[::-1]
