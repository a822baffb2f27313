"""Write drawn clips to disk: h264 files, every fifth clip as a frame folder, and their manifest."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import av
import cv2
import numpy as np

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, write_manifest
from fer_core.clips.synthetic.anatomy import build
from fer_core.clips.synthetic.population import Person, Script, draw_person, draw_script, relit
from fer_core.clips.synthetic.rendering import Portrait, seen_at
from fer_core.emotions import SIX, Emotion
from fer_core.errors import ConfigError, DataError, StoreError
from fer_core.runtime import exit_with_parent, n_cores
from fer_core.store import write_atomic

DATASET = "ferflow-synthetic"
VERSION = 1  # of the drawing code; raise it when a change alters a frame
FPS = 25
FOLDER_EVERY = 5  # clips
_RECIPE = "synthetic.json"


def synthesize(
    out: Path,
    subjects: int = 24,
    seed: int = 0,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Draw six clips each of `subjects` people, write them to `out` with their manifest, and return the manifest.

    A clip begins neutral and ends at its apex, 12-24 frames at 25 per second. Only (seed, subject, emotion) decide its
    content. Clips that exist already are kept, so repeating an interrupted call finishes it.

    Args:
        out: an empty or missing folder, or one that an earlier call with the same seed has made.
        subjects: number of people.
        seed: seed of all random choices.
        workers: processes; 0 = one per core.
        progress: called with (clips done, clips in all).
    Raises:
        ConfigError: `subjects` is under 1, `seed` or `workers` under 0.
        DataError: `out` contains other files.
        StoreError: `out` cannot be written.
    """
    for name, value, least in (("subjects", subjects, 1), ("seed", seed, 0), ("workers", workers, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    out = out.absolute()
    _claim(out, seed)
    plans = [[clip for clip, _ in _plan(out, seed, subject)[1]] for subject in range(subjects)]
    jobs = [(out, seed, k) for k, plan in enumerate(plans) if not all(clip.path.exists() for clip in plan)]
    done = len(SIX) * (subjects - len(jobs))
    for _ in _finished(jobs, min(workers or n_cores(), len(jobs))):
        done += len(SIX)
        if progress:
            progress(done, len(SIX) * subjects)
    manifest = Manifest(tuple(clip for plan in plans for clip in plan))
    write_manifest(manifest, out / "manifest.csv")
    return manifest


def draw_clip(
    seed: int, subject: int, emotion: Emotion, skin: tuple[int, int, int] | None = None, light: float = 1.0
) -> Iterator[np.ndarray]:
    """Return the frames of one clip before any encoding, each (height, width, 3) uint8 RGB.

    Args:
        skin, light: see `relit`; `skin=None` draws the subject's own skin and light.
    """
    person = draw_person(seed, subject)
    if skin is not None:
        person = relit(person, skin, light)
    return _frames(_sit(person), draw_script(seed, subject, emotion, person))


def draw_landmarks(seed: int, subject: int, emotion: Emotion) -> np.ndarray:
    """Return the pixel positions of both eyes and the mouth in each frame, (n, 3, 2): ground truth for detectors."""
    person = draw_person(seed, subject)
    i = person.identity
    points = np.array([(-i.eye_x, 0.0), (i.eye_x, 0.0), (0.0, i.mouth_y)])
    poses = draw_script(seed, subject, emotion, person).poses
    return np.stack([seen_at(points, person.scene, pose) for pose in poses])


def _finished(jobs: list[tuple[Path, int, int]], workers: int) -> Iterator[None]:
    """Yield each time a subject's clips have been written."""
    if workers <= 1:
        for job in jobs:
            _write_subject(*job)
            yield
        return
    context = multiprocessing.get_context("spawn")  # the fork server is that of trials, with torch in it
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(_write_subject, *job) for job in jobs]):
            future.result()
            yield
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    exit_with_parent()
    cv2.setNumThreads(1)


def _claim(out: Path, seed: int) -> None:
    """Mark `out` as a folder of synthetic clips. Raises DataError if it contains anything else."""
    recipe = {"dataset": DATASET, "seed": seed, "version": VERSION}
    try:
        held = sorted(p.name for p in out.iterdir() if not p.name.startswith(".")) if out.exists() else []
        found = json.loads((out / _RECIPE).read_bytes()) if _RECIPE in held else None
    except (OSError, ValueError) as exc:
        raise DataError(f"{out} cannot be used for synthetic clips ({exc}); choose an empty folder") from exc
    if held and found is None:
        raise DataError(f"{out} holds other files (the first is '{held[0]}'); choose an empty folder")
    if found not in (None, recipe):
        raise DataError(f"{out} holds clips of another recipe ({found}, not {recipe}); choose an empty folder")
    write_atomic(out / _RECIPE, json.dumps(recipe).encode())


def _plan(out: Path, seed: int, subject: int) -> tuple[Person, list[tuple[Clip, Script]]]:
    """Return a subject, and their six clips with the scripts; nothing is drawn yet."""
    person = draw_person(seed, subject)
    name = f"s{subject:03d}"
    person_id = f"{DATASET}:{name}" if seed == 0 else f"{DATASET}:seed{seed}-{name}"  # not the same person
    plan = []
    for column, emotion in enumerate(SIX):
        script = draw_script(seed, subject, emotion, person)
        in_folder = (len(SIX) * subject + column) % FOLDER_EVERY == FOLDER_EVERY - 1
        id_ = f"{name}/{name}_{emotion}"
        path = out / (id_ if in_folder else f"{id_}.mp4")
        plan.append((Clip(id_, path, person_id, emotion, DATASET, apex=len(script) - 1), script))
    return person, plan


def _write_subject(out: Path, seed: int, subject: int) -> None:
    """Write the clips of a subject that do not exist yet."""
    person, plan = _plan(out, seed, subject)
    portrait = _sit(person)
    for clip, script in plan:
        if not clip.path.exists():
            frames = _frames(portrait, script)
            if clip.path.suffix == ".mp4":
                write_atomic(clip.path, _encode(frames))
            else:
                _write_folder(clip.path, frames)


def _sit(person: Person) -> Portrait:
    return Portrait(person.identity, build(person.identity, person.scene.ppu), person.scene)


def _frames(portrait: Portrait, script: Script) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(script.noise_seed)
    shape = (portrait.scene.height, portrait.scene.width, 3)
    for units, pose, gaze, blink in zip(script.units, script.poses, script.gaze, script.blink, strict=True):
        noise = rng.standard_normal(shape, dtype=np.float32)
        yield portrait.frame(units, pose, (float(gaze[0]), float(gaze[1])), float(blink), noise)


def _encode(frames: Iterator[np.ndarray]) -> bytes:
    """Return an mp4 file of h264, yuv420p."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # with more threads, or mb-tree (its SIMD code reads stray memory), equal frames give different files
        options = {"crf": "23", "preset": "veryfast", "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for index, frame in enumerate(frames):
            if index == 0:
                stream.height, stream.width = frame.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _write_folder(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Write a folder of JPEG frames; the folder appears complete or not at all."""
    draft = path.parent / f".tmp-{os.getpid()}-{path.name}"
    try:
        draft.mkdir(parents=True)
        for index, frame in enumerate(frames):
            _, jpeg = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 93])
            (draft / f"img_{index:04d}.jpg").write_bytes(jpeg.tobytes())
        draft.rename(path)
    except OSError as exc:
        raise StoreError(
            f"cannot write {path}: {exc.strerror or exc}; free some space or choose another place"
        ) from exc
    finally:
        shutil.rmtree(draft, ignore_errors=True)
