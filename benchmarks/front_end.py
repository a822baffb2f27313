"""Front end: CPU of decoding, Viola-Jones, equalising and resizing at 640x480; memory and time by length of a clip.

`python -m benchmarks.front_end [VIDEO]` measures a drawn face, or a video, scaled to 640x480.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from fer_core.clips.clip import Clip, clip_digest
from fer_core.clips.synthetic import synthesize
from fer_core.config import FaceConfig, LimitsConfig, PreprocessConfig
from fer_core.preprocess.apex import estimate_apex
from fer_core.preprocess.batch import preprocess_batch
from fer_core.preprocess.equalize import equalize
from fer_core.preprocess.face import FaceFinder, crop, overlap, resize
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.pipeline import open_media, preprocess, preprocess_into
from fer_core.preprocess.store import FacesStore

WIDTH, HEIGHT = 640, 480
N_FRAMES = 90
LENGTHS = (120, 480, 1920)
BATCHES = (10, 20, 40)
ROUNDS = 3
ALL = PreprocessConfig(selection="all")


def main(video: str | None = None) -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = write(Path(folder) / "film.mp4", canvas(source(video, Path(folder))))
        print_cpu(clip)
        print()
        print_lengths(clip, Path(folder))
        print()
        print_batches(clip, Path(folder))


def source(video: str | None, folder: Path) -> Path:
    """Return the given video, or one of a drawn face."""
    if video:
        return Path(video)
    made = synthesize(folder / "synthetic", subjects=2, seed=0, workers=1)
    return next(clip.path for clip in made.clips if clip.path.is_file())


def canvas(video: Path) -> list[np.ndarray]:
    """Return the frames of a video, cut to 4:3 and scaled to 640x480."""
    with open_media(video, LimitsConfig()) as media:
        pictures = [
            frame.picture for frame in media.frames(lambda index: index < N_FRAMES) if frame.picture is not None
        ]
    height, width = pictures[0].shape
    cut_width, cut_height = min(width, height * 4 // 3), min(height, width * 3 // 4)
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    cut = [picture[top : top + cut_height, left : left + cut_width] for picture in pictures]
    return [cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for picture in cut]


def write(path: Path, frames: list[np.ndarray], n: int = N_FRAMES) -> Path:
    """Write a video of `n` frames as h264, repeating `frames`, and return its path."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = "yuv420p"
        for i in range(n):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frames[i % len(frames)], format="gray")))
        out.mux(stream.encode(None))
    return path


def print_cpu(path: Path) -> None:
    with open_media(path, LimitsConfig()) as media:
        frames = [frame.picture for frame in media.frames(lambda index: True) if frame.picture is not None]
        decode = cpu_ms(lambda: sum(1 for _ in media.frames(lambda index: True)))
        apex = cpu_ms(lambda: estimate_apex(media, FaceConfig()))
    modes = {mode: FaceConfig(mode=mode) for mode in ("per_frame", "tracked")}
    detect = {mode: cpu_ms(lambda cfg=cfg: find(frames, cfg)) for mode, cfg in modes.items()}  # type: ignore[misc]
    boxes = [found.box for found in find(frames, modes["per_frame"]) if found]
    crops = [crop(frame, boxes[0]) for frame in frames]
    flat = [equalize(face) for face in crops]
    steps = {
        "decode h264 to grey, upright": (decode, decode),
        "Viola-Jones": (detect["per_frame"], detect["tracked"]),
        "crop, equalise (eq. 3.1-3.4)": (cpu_ms(lambda: [equalize(crop(f, boxes[0])) for f in frames]),) * 2,
        "resize to 224": (cpu_ms(lambda: [resize(face, 224) for face in flat]),) * 2,
    }
    clip = Clip(id="film", path=path)
    made: dict[str, Faces] = {}
    whole = []
    for mode, cfg in modes.items():
        config = ALL.model_copy(update={"face": cfg})
        whole.append(cpu_ms(lambda config=config: preprocess(clip, config, LimitsConfig())))  # type: ignore[misc]
        made[mode] = preprocess(clip, config, LimitsConfig())
    print(f"CPU ms per frame, {WIDTH}x{HEIGHT}, faces of {boxes[0][2]} pixels, one thread, best of {ROUNDS}:\n")
    print("| step | per_frame | tracked |\n| --- | --- | --- |")
    for name, (one, other) in steps.items():
        print(f"| {name} | {one / len(frames):.2f} | {other / len(frames):.2f} |")
    print(f"| **whole front end** | **{whole[0] / len(frames):.2f}** | **{whole[1] / len(frames):.2f}** |")
    print(f"| apex estimate, where asked for | {apex / len(frames):.2f} | {apex / len(frames):.2f} |")
    found = {mode: faces.n_used / faces.n_selected for mode, faces in made.items()}
    print(f"\nFaces found: {found['per_frame']:.1%} and {found['tracked']:.1%}; boxes at IoU {agreement(made):.3f}.")


def cpu_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times) * 1e3


def find(frames: list[np.ndarray], cfg: FaceConfig) -> list:
    finder = FaceFinder(cfg)
    return [finder.find(frame) for frame in frames]


def agreement(made: dict[str, Faces]) -> float:
    """Return the mean intersection over union of the boxes of both modes, in frames where both have one."""
    one, other = made["per_frame"].ledger, made["tracked"].ledger
    both = one.used & other.used
    pairs = zip(one.box[both].tolist(), other.box[both].tolist(), strict=True)
    return float(np.mean([overlap(tuple(a), tuple(b)) for a, b in pairs]))


def print_lengths(path: Path, folder: Path) -> None:
    with open_media(path, LimitsConfig()) as media:
        frames = [frame.picture for frame in media.frames(lambda index: True) if frame.picture is not None]
    print("One clip, its second half into the store, in a process of its own:\n")
    print("| frames | peak memory, MiB | CPU s | CPU ms per selected frame |\n| --- | --- | --- | --- |")
    for n in LENGTHS:
        clip = write(folder / f"{n}.mp4", frames, n)
        command = [sys.executable, "-m", "benchmarks.front_end", "--one", str(clip), str(folder / "store")]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        per_frame = 1e3 * told["cpu_s"] / (n - n // 2)
        print(f"| {n} | {told['peak_mib']:.1f} | {told['cpu_s']:.2f} | {per_frame:.1f} |", flush=True)


def print_batches(path: Path, folder: Path) -> None:
    print("Batches of different clips, eight faces each, one worker; and the same again, from the store:\n")
    print("| clips | CPU s of the children | seconds | again, seconds |\n| --- | --- | --- | --- |")
    data, limits = path.read_bytes(), LimitsConfig(workers=1)
    cfg = PreprocessConfig(max_frames=8)
    for n in BATCHES:
        clips, store = [], FacesStore(folder / f"store{n}")
        for i in range(n):
            copy = folder / f"{n}_{i}.mp4"
            copy.write_bytes(data + i.to_bytes(4, "big"))
            clips.append(Clip(id=copy.name, path=copy))
        cpu, wall = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime, []
        for _ in range(2):
            started = time.perf_counter()
            assert all(made.error is None for made in preprocess_batch(clips, cfg, limits, store))
            wall.append(time.perf_counter() - started)
        cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - cpu
        print(f"| {n} | {cpu:.2f} | {wall[0]:.2f} | {wall[1]:.3f} |", flush=True)


def one(path: Path, store: Path) -> None:
    """Preprocess a clip in this process, and print its memory and CPU time."""
    cv2.setNumThreads(1)
    started = time.process_time()
    preprocess_into(
        FacesStore(store), Clip(id="one", path=path), [PreprocessConfig()], LimitsConfig(), clip_digest(path)
    )
    cpu_s = time.process_time() - started
    print(json.dumps({"peak_mib": peak_mib(), "cpu_s": cpu_s}))


def peak_mib() -> float:
    """Return the peak resident memory of this process in MiB; `ru_maxrss` alone may be that of its parent."""
    status = Path("/proc/self/status")
    if status.is_file():
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 2**10
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(*sys.argv[1:2])
