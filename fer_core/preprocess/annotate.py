"""Write a clip as an mp4 with faces framed, verdicts and a timeline, in the child process, which decodes the clip.

What is drawn comes as a `Film`, made by the parent from the rows of the results.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from fer_core.config import LimitsConfig
from fer_core.errors import StoreError
from fer_core.preprocess.beat import no_beat
from fer_core.preprocess.decode import Frame, Media, VideoFile
from fer_core.preprocess.extract import colours
from fer_core.preprocess.pipeline import check_content, open_media

FPS = 25.0  # of a folder of frames, which has no times
CLOCK = 90_000  # ticks per second of the film
NARROWEST, WIDEST = 480, 1280  # pixels; a frame is scaled to a width between these
STRIP, MARGIN, FOOT = 26, 8, 24  # pixels: height of a person's timeline, space around it, the line of text below
HELD_S = 0.6  # a box is shown this long after the last frame in which the face was looked for
PAPER, INK, SOFT, CURSOR = (28, 26, 24), (235, 235, 235), (120, 120, 120), (255, 255, 255)  # RGB
FONT = cv2.FONT_HERSHEY_SIMPLEX
WEAK = 0.4  # share of the colour where the model abstains


@dataclass(frozen=True)
class Person:
    """One person of a film.

    Args:
        number: as in the results, from 1.
        frames: numbers of the frames in which the face was looked for, ascending.
        boxes: the face in each of them, x, y, width, height in pixels of the upright frame; empty: no face.
        start_s, end_s: begin and end of each verdict over time, ascending.
        label: index of the predicted class of each; -1: none.
        confidence, weak: of each; weak: the model abstains.
    """

    number: int
    frames: list[int]
    boxes: list[list[int]]
    start_s: list[float]
    end_s: list[float]
    label: list[int]
    confidence: list[float]
    weak: list[bool]


@dataclass(frozen=True)
class Film:
    """What is drawn over a clip.

    Args:
        classes, colors: names of the classes, and a colour for each, RGB.
        people: the people, at least one.
        duration_s: of the clip; 0 if unknown.
        note: shown under the timeline.
        located: False if the boxes do not fit the stored frames, because the clip was turned upright to be scored.
    """

    classes: list[str]
    colors: list[list[int]]
    people: list[Person]
    duration_s: float
    note: str
    located: bool = True

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Film:
        data = json.loads(text)
        return cls(**{**data, "people": [Person(**person) for person in data["people"]]})


def write_film(
    path: Path, digest: str, film: Film, target: Path, limits: LimitsConfig, beat: Callable[[], None] = no_beat
) -> int:
    """Write the film of a clip, h264 in mp4 without sound, and return the number of its frames.

    Raises:
        ClipError: the clip cannot be decoded, or has changed since its digest was taken.
        StoreError: the file cannot be written.
    """
    with open_media(path, limits, beat) as media:
        check_content(media.digest, digest)
        seconds = film.duration_s or media.n_expected / FPS
        try:
            with av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as out:
                return _encode(out, media, film, seconds)
        except OSError as exc:
            raise StoreError(f"cannot write {target}: {exc.strerror or exc}; free some space") from exc


def _encode(out: av.container.OutputContainer, media: Media, film: Film, seconds: float) -> int:
    rate = Fraction(media.fps or FPS).limit_denominator(1001)
    stream = out.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast", "threads": "1"})
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, CLOCK)
    canvas: Canvas | None = None
    written, last = 0, -1
    for frame in _pictures(media):
        assert frame.picture is not None
        if canvas is None:
            canvas = Canvas(film, (frame.picture.shape[1], frame.picture.shape[0]), seconds)
            stream.width, stream.height = canvas.size
        time_s = frame.index / (media.fps or FPS) if math.isnan(frame.time_s) else frame.time_s
        picture = av.VideoFrame.from_ndarray(canvas.draw(frame, time_s), format="rgb24")
        last = max(last + 1, round(time_s * CLOCK))  # times that do not rise are moved up
        picture.pts, picture.time_base = last, Fraction(1, CLOCK)
        out.mux(stream.encode(picture))
        written += 1
    out.mux(stream.encode(None))
    return written


def _pictures(media: Media) -> Iterator[Frame]:
    """Yield the frames that can be decoded: in colour from a video, grey from a folder."""
    every = media.frames(lambda _: True, colours) if isinstance(media, VideoFile) else media.frames(lambda _: True)
    return (frame for frame in every if frame.picture is not None)


class Canvas:
    """Draws the frames of one film.

    Args:
        size: width and height of the clip's first frame; others are scaled to it.
        seconds: duration of the clip.
    """

    def __init__(self, film: Film, size: tuple[int, int], seconds: float) -> None:
        self._film, self._seconds = film, max(seconds, 1e-3)
        self._scale = min(max(size[0], NARROWEST), WIDEST) / size[0]
        self._width, self._height = (max(2, round(side * self._scale / 2) * 2) for side in size)
        self._foot = self._timeline()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the film in pixels; both are even, as h264 needs them."""
        return self._width, self._height + len(self._foot)

    def draw(self, frame: Frame, time_s: float) -> np.ndarray:
        """Return the (height, width, 3) uint8 RGB picture of a frame."""
        picture = frame.picture
        assert picture is not None
        picture = cv2.resize(picture, (self._width, self._height), interpolation=cv2.INTER_AREA)
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB) if picture.ndim == 2 else np.ascontiguousarray(picture)
        for place, person in enumerate(self._film.people):
            self._mark(picture, person, place, frame.index, time_s)
        foot = self._foot.copy()
        x = MARGIN + round((self._width - 2 * MARGIN) * min(time_s / self._seconds, 1))
        cv2.line(foot, (x, MARGIN // 2), (x, len(foot) - FOOT), CURSOR, 2)
        text = _time(time_s, self._seconds)
        _write(foot, text, (self._width - MARGIN - 9 * len(text), len(foot) - MARGIN), INK)
        return np.vstack([picture, foot])

    def _mark(self, picture: np.ndarray, person: Person, place: int, index: int, time_s: float) -> None:
        """Draw the box, label and confidence of a person, if there is a verdict at this time."""
        box = self._box(person, index) if self._film.located else []
        said = bisect_right(person.start_s, time_s) - 1
        known = said >= 0 and time_s <= person.end_s[said] + 1e-6 and person.label[said] >= 0
        if not known:
            if box:
                cv2.rectangle(picture, box[:2], (box[0] + box[2], box[1] + box[3]), SOFT, 1)
            return
        color = _dimmed(self._film.colors[person.label[said]], weak=False)
        confidence = person.confidence[said]
        text = f"{self._film.classes[person.label[said]]} {confidence:.0%}" + (" ?" if person.weak[said] else "")
        text = f"{person.number}: {text}" if len(self._film.people) > 1 else text
        x, y, width = (box[0], box[1], box[2]) if box else (MARGIN, 40 + 30 * place, 160)
        if box:
            cv2.rectangle(picture, (x, y), (x + width, y + box[3]), color, 2, cv2.LINE_AA)
        y = max(y, 28)
        cv2.rectangle(picture, (x, y - 26), (x + max(width, 10 * len(text)), y), PAPER, -1)
        _write(picture, text, (x + 4, y - 11), INK)
        cv2.rectangle(picture, (x, y - 6), (x + round(width * confidence), y - 1), color, -1)

    def _box(self, person: Person, index: int) -> list[int]:
        """Return the face in this frame, between those of its neighbours; empty without a face."""
        after = bisect_right(person.frames, index)
        if after == 0:  # the first frame that was looked at may come a little later
            near = person.frames and person.frames[0] - index <= HELD_S * FPS
            return [round(v * self._scale) for v in person.boxes[0]] if near else []
        last = person.boxes[after - 1]
        gap = index - person.frames[after - 1]
        if gap and after < len(person.frames) and last and person.boxes[after]:
            share = gap / (person.frames[after] - person.frames[after - 1])
            last = [round((1 - share) * a + share * b) for a, b in zip(last, person.boxes[after], strict=True)]
        elif gap > HELD_S * FPS:
            return []
        return [round(v * self._scale) for v in last]

    def _timeline(self) -> np.ndarray:
        people, inner = self._film.people, self._width - 2 * MARGIN
        rows = len(people) * (STRIP + MARGIN)
        foot = np.full(((MARGIN + rows + FOOT) // 2 * 2, self._width, 3), PAPER, np.uint8)
        for place, person in enumerate(people):
            bottom = MARGIN + place * (STRIP + MARGIN) + STRIP
            cv2.line(foot, (MARGIN, bottom), (self._width - MARGIN, bottom), SOFT, 1)
            ends = [*person.start_s[1:], *person.end_s[-1:]]  # windows that overlap end where the next one begins
            for said, label in enumerate(person.label):
                if label < 0:
                    continue
                start, end = person.start_s[said], min(ends[said], person.end_s[said])
                left, right = (MARGIN + round(inner * min(t / self._seconds, 1)) for t in (start, end))
                color = _dimmed(self._film.colors[label], person.weak[said])
                top = bottom - max(2, round(STRIP * person.confidence[said]))
                cv2.rectangle(foot, (left, top), (max(right - 1, left), bottom), color, -1)
        _write(foot, self._film.note, (MARGIN, len(foot) - MARGIN), SOFT)
        return foot


def _write(picture: np.ndarray, text: str, place: tuple[int, int], color: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, place, FONT, 0.45, color, 1, cv2.LINE_AA)


def _dimmed(color: list[int], weak: bool) -> tuple[int, int, int]:
    share = WEAK if weak else 1.0
    red, green, blue = (round(share * c + (1 - share) * p) for c, p in zip(color, PAPER, strict=True))
    return red, green, blue


def _time(now_s: float, seconds: float) -> str:
    if seconds < 60:
        return f"{now_s:.1f} / {seconds:.1f} s"
    return " / ".join(f"{int(t) // 60}:{int(t) % 60:02d}" for t in (now_s, seconds))
