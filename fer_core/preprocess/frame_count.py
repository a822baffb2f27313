"""Count the frames of a clip: how many were decoded, which are lost, and the decoded share of what is stated."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import av
import numpy as np

from fer_core.errors import ClipError, ClipStatus
from fer_core.preprocess.quantizer import FLAG, is_strong, quantizer

MIN_SHARE = 0.9  # least decoded share of the stated frames: below it a clip is damaged, below 1 it is flagged
MAX_CORRUPT = 0.05  # maximum share of frames whose errors the decoder concealed; above it a clip is of low quality
PAUSE_S = 1.0  # a longer gap counts as a pause of the camera, not as missing frames
STEADY = 0.6  # minimum share of one-frame gaps; with fewer, longer gaps are not counted as missing frames


@dataclass(frozen=True)
class Report:
    """Result of one pass over a clip, from its first to its last frame.

    Args:
        n_frames: number of frames, with the lost ones.
        n_lost: number of frames that could not be decoded.
        share: decoded share of what the container states, 0 ... 1.
        duration_s: seconds; 0 where unknown.
        width, height: upright size of the first frame, pixels.
        flags: see `Faces.flags`.
    """

    n_frames: int
    n_lost: int
    share: float
    duration_s: float
    width: int
    height: int
    flags: frozenset[str]


class Census:
    """Counts the packets and frames of one pass over a video.

    Args:
        time_base: seconds per tick of the time stamps.
        shows_every_packet: see `container.shows_every_packet`.
    """

    def __init__(self, time_base: float, shows_every_packet: bool) -> None:
        self.stamps: list[int | None] = []  # of decoded frames
        self.size = (0, 0)
        self.flags: set[str] = set()
        self._time_base = time_base
        self._shows_every_packet = shows_every_packet
        self._asked: list[int] = []  # time stamps of packets to be shown
        self._failed: list[tuple[int | None, int]] = []  # time stamp, decoded frames before it
        self._n_corrupt = 0
        self._quantizers: list[int] = []

    def packet(self, packet: av.Packet, decoded: bool) -> None:
        """Count a packet.

        Args:
            decoded: False if the decoder reported an error.
        """
        if not decoded:
            self._failed.append((packet.pts, len(self.stamps)))
        elif packet.size and packet.pts is not None and not packet.is_discard:
            self._asked.append(packet.pts)

    def frame(self, frame: av.VideoFrame, codec: str = "") -> None:
        """Count a decoded frame.

        Args:
            codec: name of the codec.
        """
        if (found := quantizer(frame, codec)) is not None:
            self._quantizers.append(found)
        self.stamps.append(frame.pts)
        self._n_corrupt += frame.is_corrupt
        self._shows_every_packet &= not frame.interlaced_frame  # its two fields may come in two packets

    def settle(self, n_expected: int, promised_s: float, rate: float) -> tuple[Report, list[int]]:
        """Return the report, and the indices of the lost frames, ascending.

        Args:
            n_expected: number of frames that the container states.
            promised_s: duration that the container states, seconds; 0 where it states none.
            rate: frames per second that the container states; 0 where unknown.

        Raises:
            ClipError: no frame, or less than `MIN_SHARE` of the stated frames or duration, was decoded (damaged).
        """
        n = len(self.stamps)
        known = [stamp for stamp in self.stamps if stamp is not None]
        ordered = len(known) == n and all(a < b for a, b in pairwise(known))
        if self._shows_every_packet and ordered:
            shown = set(known).union(stamp for stamp, _ in self._failed if stamp is not None)
            self._failed += [(stamp, 0) for stamp in self._asked if stamp not in shown]
        lost = sorted(
            before if stamp is None or not ordered else bisect_left(known, stamp) for stamp, before in self._failed
        )
        total = n + len(lost)
        if n == 0:
            raise ClipError(ClipStatus.DAMAGED, f"0 of {max(n_expected, total)} frames decoded; needs at least 1")
        share, span = n / total, 0.0
        if known and (not ordered or self._jumps(known)):
            self.flags.add("odd_timestamps")
        elif known:
            frame_s = (known[-1] - known[0]) * self._time_base / (n - 1) if n > 1 else 1 / rate if rate else 0.0
            span = frame_s * n
            if promised_s - span > 2 * frame_s:  # containers round durations, and some count one frame too many
                share = min(share, span / promised_s)
        if share < MIN_SHARE:
            raise ClipError(
                ClipStatus.DAMAGED,
                f"{n} frames decoded, {share:.0%} of what its container promises; needs {MIN_SHARE:.0%}. "
                "Copy or export it again",
            )
        if is_strong(self._quantizers):
            self.flags.add(FLAG)
        if share < 1:
            self.flags |= {"decode_errors" if lost else "truncated", "low_quality"}
        if self._n_corrupt:
            self.flags |= {"corrupt_frames"} | ({"low_quality"} if self._n_corrupt > MAX_CORRUPT * n else set())
        if ordered and (missing := self._missing({*known, *(s for s, _ in self._failed if s is not None)})):
            self.flags |= {"missing_frames"} | ({"low_quality"} if missing > (1 - MIN_SHARE) * (n + missing) else set())
        places = [place + earlier for earlier, place in enumerate(lost)]
        return Report(total, len(lost), share, span, *self.size, frozenset(self.flags)), places

    def _missing(self, stamps: set[int]) -> int:
        """Return the number of frames missing between time stamps of an even frame rate; 0 if the rate is not even."""
        gaps = np.diff(sorted(stamps))
        gaps = gaps[gaps * self._time_base <= PAUSE_S]
        if len(gaps) == 0:
            return 0
        frame = float(np.median(gaps))
        steps = np.rint(gaps / frame)
        even = np.abs(gaps - steps * frame) <= 0.1 * steps * frame + 1  # one tick more, since containers round
        if not even.all() or np.mean(steps == 1) < STEADY:
            return 0
        return int(steps.sum()) - len(steps)

    def _jumps(self, known: list[int]) -> bool:
        gaps = np.diff(known) * self._time_base
        return len(gaps) > 0 and gaps.max() > max(10.0, 100 * float(np.median(gaps)))
