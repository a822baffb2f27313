"""Read a folder of frames, or a still image, as a clip: files are decoded from memory; OpenCV gets no path."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path

import cv2
import numpy as np

from fer_core.clips.media import is_picture_content
from fer_core.config import LimitsConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.admit import open_regular
from fer_core.preprocess.beat import MINUTE, no_beat
from fer_core.preprocess.decode import Frame
from fer_core.preprocess.frame_count import MIN_SHARE, Report
from fer_core.preprocess.gray import check_pixels

# Last bytes of a complete picture; OpenCV fills the missing part of a truncated one with grey, without an error.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
_TAIL = 4096  # some cameras append data after the end
_NEXT = b"\xff\xd9\xff\xd8"  # one JPEG picture followed directly by another
_STREAM = 2  # from this number on, the file is a stream; a photograph may have one, before its depth map
_SEEN = 16 * 2**20  # bytes of the file in which they are counted


def is_still(file: BufferedReader) -> bool:
    """Return True if an open file is a single picture; a stream of JPEG pictures is a video."""
    file.seek(0)
    head = file.read(64)
    if not is_picture_content(head):
        return False
    return not head.startswith(b"\xff\xd8") or (head + file.read(_SEEN)).count(_NEXT) < _STREAM


class FrameFolder:
    """The frames of a folder, in order; see `decode.Media`.

    Args:
        files: frames in order.
        digest: content digest of the folder.
        limits: largest frame.
        beat: called after every `MINUTE` frames that were read.
    """

    def __init__(
        self, files: tuple[Path, ...], digest: str, limits: LimitsConfig, beat: Callable[[], None] = no_beat
    ) -> None:
        self.n_expected = len(files)
        self.fps = 0.0
        self.digest = digest
        self._files = files
        self._limits = limits
        self._beat = beat
        self._report: Report | None = None

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        """Yield every place in order; only wanted frames are read, so only these can be found lost.

        Raises:
            ClipError: under `MIN_SHARE` of the wanted frames can be decoded (damaged), or one is too_large.
        """
        lost, asked = [], 0
        size = (0, 0)
        for index, file in enumerate(self._files):
            if not wanted(index):
                yield Frame(index, math.nan, None)
                continue
            asked += 1
            if asked % MINUTE == 0:
                self._beat()
            picture = self._read(file)
            if picture is None:
                lost.append(file.name)
            elif size == (0, 0):
                size = picture.shape[1], picture.shape[0]
            yield Frame(index, math.nan, picture, lost=picture is None)
        share = 1 - len(lost) / max(asked, 1)
        if share < MIN_SHARE:
            raise ClipError(
                ClipStatus.DAMAGED,
                f"{asked - len(lost)} of {asked} frames decoded (first that did not: {lost[0]!r}); "
                f"needs {MIN_SHARE:.0%}. Extract it again",
            )
        flags = frozenset({"decode_errors", "low_quality"} if lost else ())
        self._report = Report(self.n_expected, len(lost), share, 0.0, *size, flags)

    def report(self) -> Report:
        if self._report is None:
            raise RuntimeError("report() needs a finished run over frames()")
        return self._report

    def _read(self, path: Path) -> np.ndarray | None:
        with open_regular(path, self._limits) as file:
            data = file.read()
        end = _ENDS.get(data[:2])
        if not data or (end is not None and end not in data[-_TAIL:]):
            return None
        try:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
            if picture is not None and data[:2] == b"\x89P":
                picture = _over_black(data, picture)
        except cv2.error as exc:
            if "CV_IO_MAX_IMAGE" in str(exc) or exc.code == cv2.Error.StsNoMem:
                raise ClipError(ClipStatus.TOO_LARGE, f"frame {path.name!r} is too large to decode") from exc
            return None
        if picture is not None:
            check_pixels(picture.shape[1], picture.shape[0], self._limits.max_pixels)
        return picture


def _over_black(data: bytes, picture: np.ndarray) -> np.ndarray:
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if whole is None or whole.ndim != 3 or whole.shape[2] != 4:
        return picture
    alpha = whole[..., 3]
    if alpha.dtype != np.uint8:
        alpha = cv2.convertScaleAbs(alpha, alpha=1 / 257)
    return cv2.multiply(picture, alpha, scale=1 / 255)
