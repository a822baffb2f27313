"""The store of faces, under keys made from everything that determines the faces."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from fer_core.clips.clip import Clip
from fer_core.config import PreprocessConfig
from fer_core.errors import StoreError
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.preprocess.landmarks import resolved
from fer_core.preprocess.spool import FacesSpool
from fer_core.store import EntryStore, cache_key

PREPROCESS_VERSION = 4  # raise it whenever the same clip and settings give other faces; a test compares stored ones
FLAGS_VERSION = 1  # raise it whenever the same clip and settings give the same faces, but other flags

_CODES = tuple(FrameStatus)
_NOTED = ("clip_digest", "n_frames", "apex", "width", "height", "duration_s")


@cache
def decoders() -> dict[str, str]:
    import av
    import cv2

    codec = ".".join(str(v) for v in av.library_versions["libavcodec"])
    return {"av": av.__version__, "libavcodec": codec, "opencv": cv2.__version__}


def cut_at(clip: Clip, cfg: PreprocessConfig) -> int:
    """Return the apex from the manifest at which the clip is cut; -1 if there is none or it is not used."""
    return -1 if clip.apex is None or cfg.apex == "last" else clip.apex


def faces_key(clip_digest: str, apex: int, cfg: PreprocessConfig) -> str:
    """Return the key of a clip's faces: content, apex from the manifest (-1: none), settings and versions.

    Raises:
        WeightsError: landmarks are asked for, and the network is not on this machine.
    """
    unset = set() if cfg.frames_per_s else {"frames_per_s"}  # so that faces stored before this setting keep their key
    return cache_key(
        clip=clip_digest,
        apex=apex,
        config=resolved(cfg).model_dump(mode="json", exclude=unset),
        version=PREPROCESS_VERSION,
        flags=FLAGS_VERSION,
        decoders=decoders(),
    )


class FacesStore:
    """Stored faces by key.

    Args:
        store_root: the workspace's `store` folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.root = store_root
        self.entries = EntryStore(store_root, "faces")

    def key(self, clip_digest: str, apex: int, cfg: PreprocessConfig) -> str:
        """See `faces_key`."""
        return faces_key(clip_digest, apex, cfg)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def spool_folder(self) -> Path:
        """Return a temporary folder on the store's disk for pixels. Raises StoreError if it cannot be created."""
        try:
            self.entries.root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(
                f"cannot write {self.entries.root}: {exc.strerror or exc}; choose another workspace"
            ) from exc
        return self.entries.root

    def put(self, faces: Faces, spool: FacesSpool | None = None) -> None:
        """Store faces under their key. Raises StoreError if they cannot be written.

        Args:
            spool: their pixels and points, if they are not in memory.
        """
        ledger = faces.ledger
        large = {
            "pixels": (faces.n_used, spool.pixels.pieces() if spool else [faces.pixels]),
            "points": (len(faces.points), spool.points.pieces() if spool else [faces.points]),
        }
        small = {
            "frame": ledger.frame,
            "time_s": ledger.time_s,
            "status": np.array([_CODES.index(s) for s in ledger.status], dtype=np.uint8),
            "box": ledger.box,
            "weight": ledger.weight,
            "brightness": ledger.brightness,
        }
        if ledger.measures is not None:
            small["measures"] = ledger.measures
        note = {name: getattr(faces, name) for name in _NOTED} | {"flags": list(faces.flags), "cuts": list(faces.cuts)}
        self.entries.put_rows(faces.key, large, note, small)

    def get(self, key: str) -> Faces | None:
        """Return the faces of `key`; None if there are none or the entry is damaged (it is logged and removed)."""
        found = self.entries.get(key, mapped=("pixels", "points"))
        if found is None:
            return None
        arrays, note = found
        ledger = Ledger(
            frame=arrays["frame"],
            time_s=arrays["time_s"],
            status=tuple(_CODES[code] for code in arrays["status"]),
            box=arrays["box"],
            weight=arrays["weight"],
            measures=arrays.get("measures"),
            brightness=arrays.get("brightness", np.empty(0, np.float32)),  # not in entries of earlier versions
        )
        noted = {name: note[name] for name in _NOTED} | {name: tuple(note[name]) for name in ("flags", "cuts")}
        return Faces(key=key, pixels=arrays["pixels"], ledger=ledger, points=arrays["points"], **noted)
