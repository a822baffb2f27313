"""A video that several settings read: it is decoded once, and the few pictures that the later settings need are
kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from fer_core.config import FaceConfig
from fer_core.preprocess.apex import estimate_apex
from fer_core.preprocess.decode import Frame, Media
from fer_core.preprocess.frame_count import Report


class DecodedOnce:
    """A clip whose complete pass is remembered; see `decode.Media`.

    A later pass is served from memory if it asks only for pictures that were kept, and no frame was lost. Otherwise the
    clip is decoded again.
    """

    def __init__(self, media: Media) -> None:
        self.n_expected, self.digest, self.fps = media.n_expected, media.digest, media.fps
        self._media = media
        self._kept: frozenset[int] = frozenset()
        self._whole: list[Frame] = []  # all frames of the last complete pass, with the kept pictures
        self._apex: dict[FaceConfig, int | None] = {}

    def keep(self, numbers: Iterable[int]) -> None:
        """Keep the pictures of these frames in the next pass. They stay in memory, so they must be few."""
        self._kept, self._whole = frozenset(numbers), []

    def apex(self, cfg: FaceConfig) -> int | None:
        """Return the estimated apex, see `estimate_apex`; the estimate is made once."""
        if cfg not in self._apex:
            self._apex[cfg] = estimate_apex(self, cfg)
        return self._apex[cfg]

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[Frame]:
        if self._whole and all(frame.index in self._kept for frame in self._whole if wanted(frame.index)):
            yield from self._whole
            return
        seen = []
        for frame in self._media.frames(lambda index: index in self._kept or wanted(index)):
            seen.append(frame if frame.index in self._kept else replace(frame, picture=None))
            yield frame
        report = self._media.report()
        self.n_expected = report.n_frames
        self._whole = [] if report.n_lost else seen

    def report(self) -> Report:
        return self._media.report()
