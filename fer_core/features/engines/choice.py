"""The fastest engine of this machine for a backbone, by a timed batch; the answer is kept in the user's cache."""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from fer_core.config import EngineName
from fer_core.errors import StoreError, WeightsError
from fer_core.features.backbone import BATCH, Backbone
from fer_core.features.engines.engine import ENGINES
from fer_core.features.engines.export import engines_folder
from fer_core.features.patterns import smooth_patterns
from fer_core.store import cache_key, write_atomic

log = logging.getLogger(__name__)

ROUNDS = 5
LIMIT_S = 2.0  # of one engine's rounds; a batch of vgg16 takes a second
EXACT, COARSE = 0.005, 0.2  # largest relative difference to torch's features: float32, and what rounds more


def fastest(backbones: Sequence[Backbone], size: int) -> Backbone:
    """Return the backbone whose batch of 8 faces takes the least time here, of those with the features of the first.

    The answer is kept under the network, the versions of the engines, the processor and the number of threads, so that
    later calls neither time nor compare.

    Args:
        backbones: the same backbone by torch, then on other engines.
        size: side of a face in pixels.
    """
    by_name = {backbone.engine: backbone for backbone in backbones}
    path = engines_folder() / f"choice-{_key(backbones, size)}.json"
    if (kept := _read(path)) in by_name:
        return by_name[kept]
    with _one_at_a_time(path):  # two processes would disturb each other's times, and might choose differently
        if (kept := _read(path)) in by_name:
            return by_name[kept]
        milliseconds = {backbone.engine: ms_per_face(backbone, size) for backbone in agreeing(backbones, size)}
        best = min(milliseconds, key=lambda name: milliseconds[name])
        with contextlib.suppress(StoreError):  # where the cache is read-only, they are timed again next time
            write_atomic(path, json.dumps({"engine": best, "ms_per_face": milliseconds}).encode())
    shown = ", ".join(f"{name} {value:.2f}" for name, value in milliseconds.items())
    log.info("features of %s are computed by %s (ms a face: %s)", backbones[0].name, best, shown)
    return by_name[best]


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a read-only cache
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path.with_suffix(".lock")))
        yield


def agreeing(backbones: Sequence[Backbone], size: int) -> list[Backbone]:
    """Return the backbones with the features of the first one, up to rounding; a warning names each of the others."""
    faces = smooth_patterns(BATCH, size)
    features = backbones[0].features(faces).astype(np.float32)
    found = [backbones[0]]
    for backbone in backbones[1:]:
        try:
            differing = backbone.features(faces).astype(np.float32) - features
        except WeightsError as exc:
            log.warning("%s", exc)
            continue
        relative = float(np.linalg.norm(differing) / max(float(np.linalg.norm(features)), 1e-9))
        if relative <= (EXACT if ENGINES[backbone.engine].precision == "float32" else COARSE):
            found.append(backbone)
        else:
            log.warning("%s computes other features of %s (%.2g); not used", backbone.engine, backbone.name, relative)
    return found


def ms_per_face(backbone: Backbone, size: int) -> float:
    """Return the wall time of a face in a batch of 8, in milliseconds: the least of some batches after the first."""
    faces = smooth_patterns(BATCH, size)
    backbone.features(faces)
    begun, times = time.perf_counter(), list[float]()
    while len(times) < ROUNDS and (not times or time.perf_counter() - begun < LIMIT_S):
        started = time.perf_counter()
        backbone.features(faces)
        times.append(time.perf_counter() - started)
    return 1000 * min(times) / BATCH


def _key(backbones: Sequence[Backbone], size: int) -> str:
    packages = {ENGINES[b.engine].package for b in backbones if b.engine != "torch"} | {"torch"}
    return cache_key(
        networks=[backbone.identity for backbone in backbones],
        packages={name: metadata.version(name) for name in sorted(packages)},
        processor=_processor(),
        threads=torch.get_num_threads(),
        size=size,
    )


def _processor(described: Path = Path("/proc/cpuinfo")) -> str:
    """Return name and features of the processor."""
    lines = described.read_text().splitlines() if described.is_file() else []
    named = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return f"{named.get('model name', platform.processor())} {named.get('flags', '')}"


def _read(path: Path) -> EngineName | None:
    try:
        name: EngineName = json.loads(path.read_bytes())["engine"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name
