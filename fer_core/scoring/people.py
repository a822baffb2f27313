"""The people of a clip: every face followed, and the faces of each person stored like those of a clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fer_core.config import PreprocessConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.features.backbone import Backbone
from fer_core.preprocess.batch import ClipFaces
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.pipeline import flags_of
from fer_core.preprocess.spool import FacesSpool
from fer_core.preprocess.store import FacesStore
from fer_core.preprocess.tracks import LEAST, follow, of_person
from fer_core.store import cache_key

_KEPT = 256  # faces whose features are kept while tracks are compared


def people_of(made: ClipFaces, cfg: PreprocessConfig, store: FacesStore, backbone: Backbone | None) -> list[ClipFaces]:
    """Return the faces of each person of a clip, by first appearance; the frames from first to last appearance.

    A person is followed by overlap, and after a loss by the backbone's features, if there is one whose features tell
    how a face looks. A cut ends a person.

    Args:
        made: all faces of the clip, without an error.
        store: where the faces of each person are stored.
    Raises:
        StoreError: the faces cannot be stored.
    """
    every = made.faces
    assert every is not None
    people = follow(every.ledger, every.cuts, _likeness(every, backbone))
    if not people:
        reason = f"no face stays for {LEAST} frames; needs one that does"
        return [replace(made, error=ClipError(ClipStatus.NO_FACE, reason))]
    found = []
    for number, rows in enumerate(people, start=1):
        ledger, places = of_person(every.ledger, rows, whole=False)
        spool = FacesSpool(every.pixels.shape[1], store.spool_folder())
        spool.take(every.pixels, every.points, places)
        own = Faces(
            key=cache_key(faces=every.key, rows=rows.tolist()),
            clip_digest=every.clip_digest,
            pixels=spool.pixels.rows(),
            points=spool.points.rows(),
            ledger=ledger,
            n_frames=every.n_frames,
            width=every.width,
            height=every.height,
            duration_s=every.duration_s,
            flags=tuple(sorted({*every.flags, *flags_of(ledger, cfg)})),
        )
        store.put(own, spool)
        found.append(replace(made, key=own.key, faces=store.get(own.key), person=number))
    return found


def _likeness(faces: Faces, backbone: Backbone | None) -> Callable[[int, int], float] | None:
    """Return the cosine of the features of the faces in two rows; None if the backbone only tells expressions."""
    if backbone is None or backbone.output == "classes":
        return None
    place = np.cumsum(faces.ledger.used) - 1

    @lru_cache(maxsize=_KEPT)
    def features(row: int) -> np.ndarray:
        found = backbone.features(np.array(faces.pixels[place[row]][None]))[0].astype(np.float32)
        return found / max(float(np.linalg.norm(found)), 1e-9)

    return lambda before, now: float(features(before) @ features(now))
