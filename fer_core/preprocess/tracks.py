"""Follow faces through a clip: by overlap from frame to frame, then by appearance; a cut ends every track."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fer_core.preprocess.face import overlap
from fer_core.preprocess.faces import FrameStatus, Ledger

SAME_PLACE = 0.3  # smallest overlap of one face in two frames
# Cosine of the features of two faces: with efficientnet-lite0, 95 % of the pairs of one clip lie above, and 6 % of the
# pairs of different people (36 clips of 12 rendered heads, 12 of photographed people).
SAME_LOOK = 0.88
PAUSE_S = 1.0  # longest time for which a face that was lost is expected at its last place
LEAST = 3  # frames with a face; a shorter track of a longer clip is taken for a false detection
THUMB = 32  # side in pixels of the small pictures that are compared to find cuts
CUT_ALIKE, CUT_STEP = 0.5, 45.0  # a cut: correlation below, or mean change of brightness above


class CutFinder:
    """Finds the cuts of a film, where one picture has little in common with the one before."""

    def __init__(self) -> None:
        self._last: np.ndarray | None = None

    def cut(self, picture: np.ndarray) -> bool:
        """Return True if there is a cut before this grey picture."""
        small = cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
        last, self._last = self._last, small
        if last is None:
            return False
        if float(np.abs(small - last).mean()) > CUT_STEP:
            return True
        spread = float(small.std()) * float(last.std())
        if spread < 1.0:  # at least one of the two is plain
            return bool(small.std() > 1.0) != bool(last.std() > 1.0)
        return float(((small - small.mean()) * (last - last.mean())).mean()) / spread < CUT_ALIKE


def follow(ledger: Ledger, cuts: Sequence[int], alike: Callable[[int, int], float] | None = None) -> list[np.ndarray]:
    """Return the tracks, by first appearance and then from left to right: the rows of each in the ledger, ascending.

    Args:
        ledger: a row for each face of a frame, and one for each frame without a face.
        cuts: numbers of the frames before which there is a cut.
        alike: similarity of the faces of two rows, the earlier first, 0 ... 1; None: only overlap counts.
    """
    tracks: list[list[int]] = []
    shot: list[list[int]] = []  # the tracks since the last cut
    ends = set(cuts)
    for rows in _frames(ledger):
        if int(ledger.frame[rows[0]]) in ends:
            shot = []
        faces = [row for row in rows if ledger.status[row] is FrameStatus.USED]
        free, faces = _extend(shot, faces, lambda track, row: _same_place(ledger, track[-1], row), SAME_PLACE)
        if alike is not None:
            _, faces = _extend(free, faces, lambda track, row: alike(track[-1], row), SAME_LOOK)
        for row in sorted(faces, key=lambda row: int(ledger.box[row, 0])):
            shot.append([row])
            tracks.append(shot[-1])
    least = LEAST if len(set(ledger.frame.tolist())) >= 2 * LEAST else 1
    return [np.array(track) for track in tracks if len(track) >= least]


def _extend(
    tracks: list[list[int]], faces: list[int], alike: Callable[[list[int], int], float], least: float
) -> tuple[list[list[int]], list[int]]:
    """Add faces to the tracks they are most alike, each to one; return the tracks and the faces that are left."""
    pairs = [(alike(track, row), -place, row) for place, track in enumerate(tracks) for row in faces]
    taken, found = set[int](), set[int]()
    for share, place, row in sorted(pairs, reverse=True):
        if share >= least and place not in taken and row not in found:
            tracks[-place].append(row)
            taken.add(place)
            found.add(row)
    left = [track for place, track in enumerate(tracks) if -place not in taken]
    return left, [row for row in faces if row not in found]


def main_track(ledger: Ledger, cuts: Sequence[int]) -> np.ndarray:
    """Return the rows of the main face: that of most time on screen, weighted by size; empty without any.

    Tracks of the same shot that are on screen only while it is not belong to it: a face that was lost and found again.
    """
    tracks = follow(ledger, cuts)
    if not tracks:
        return np.empty(0, dtype=int)
    tracks.sort(key=lambda rows: -float(np.sqrt(ledger.box[rows, 2] * ledger.box[rows, 3]).sum()))
    shot = _shot(ledger, tracks[0], cuts)
    joined = tracks[0]
    for other in tracks[1:]:
        apart = not set(ledger.frame[other].tolist()) & set(ledger.frame[joined].tolist())
        if apart and _shot(ledger, other, cuts) == shot:
            joined = np.sort(np.concatenate([joined, other]))
    return joined


def of_person(ledger: Ledger, rows: np.ndarray, *, whole: bool) -> tuple[Ledger, np.ndarray]:
    """Return a ledger with one row per frame and the face of one person, and the places of the faces in `pixels`.

    Args:
        rows: the person's track.
        whole: all frames of the clip; otherwise from the first to the last frame of the track.
    """
    mine = {int(ledger.frame[row]): int(row) for row in rows}
    first, last = int(ledger.frame[rows[0]]), int(ledger.frame[rows[-1]])
    kept, status = [], []
    for group in _frames(ledger):
        number = int(ledger.frame[group[0]])
        if whole or first <= number <= last:
            row = mine.get(number, group[0])
            lost = FrameStatus.NO_FACE if ledger.status[row] is FrameStatus.USED else ledger.status[row]
            kept.append(row)
            status.append(FrameStatus.USED if number in mine else lost)
    used = np.array([s is FrameStatus.USED for s in status])
    own = Ledger(
        frame=ledger.frame[kept],
        time_s=ledger.time_s[kept],
        status=tuple(status),
        box=np.where(used[:, None], ledger.box[kept], 0).astype(np.int32),
        weight=np.where(used, ledger.weight[kept], 0).astype(np.float32),
        brightness=np.where(used, ledger.brightness[kept], np.nan).astype(np.float32),
        measures=None if ledger.measures is None else np.where(used[:, None], ledger.measures[kept], np.nan),
    )
    place = np.cumsum(ledger.used) - 1
    return own, place[rows]


def _frames(ledger: Ledger) -> list[list[int]]:
    """Return the rows of each frame, in order."""
    groups: list[list[int]] = []
    for row, number in enumerate(ledger.frame.tolist()):
        if groups and ledger.frame[groups[-1][0]] == number:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _same_place(ledger: Ledger, last: int, now: int) -> float:
    """Return the overlap of two faces; 0 if too much time lies between them."""
    if float(ledger.time_s[now] - ledger.time_s[last]) > PAUSE_S:
        return 0.0
    x, y = ledger.box[last].tolist(), ledger.box[now].tolist()
    return overlap((x[0], x[1], x[2], x[3]), (y[0], y[1], y[2], y[3]))


def _shot(ledger: Ledger, rows: np.ndarray, cuts: Sequence[int]) -> int:
    return sum(cut <= int(ledger.frame[rows[0]]) for cut in cuts)
