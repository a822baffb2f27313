"""ferflow beside `fer`: the same clips, the same network and weights, alternated in one run.

`make bench-peers` installs `fer` into `build/peers/fer` at the first call (TensorFlow, some 2 GB), writes clips of 120
frames, 640x480, with a real face, and starts `ROUNDS` times one process after the other: `fer`, ferflow's adopted
fer2013 with its frame budget, and the same with all frames of the second half, which `fer` reads too. Each process
scores one clip (whole process: from its start to the first verdict) and then more clips (warm). Medians are printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import av
import cv2
import numpy as np
import skimage

from fer_core.config import PreprocessConfig, RunConfig
from fer_core.experiments.adoption import adopted_backbone, adopted_classifier
from fer_core.models.adopted import FRAMES, whole_course
from fer_core.models.bundle import write_bundle
from fer_core.models.record import ModelFacts

HERE = Path(__file__).parent
FER = "fer==25.10.3"
# what `fer` imports with its defaults; its package also names facenet-pytorch, for MTCNN, which pins an old torch
IMPORTED = (
    "tensorflow",
    "opencv-contrib-python",
    "pandas",
    "requests",
    "tqdm",
    "Pillow",
    "matplotlib",
    "setuptools<81",
)
ROUNDS, CLIPS, N_FRAMES = 5, 4, 120
BUDGET, ALL = f"ferflow, budget of {FRAMES} frames", "ferflow, all second-half frames"
GOALS = {BUDGET: 15, ALL: 6}  # verdicts a second against fer's
MEMORY_GOAL = 0.5


def main(rounds: int = ROUNDS) -> None:
    """Print the table and the ratios."""
    python = installed(HERE.parents[1] / "build" / "peers" / "fer")
    with tempfile.TemporaryDirectory() as folder:
        clips = [str(write_clip(Path(folder) / f"clip{i}.mp4", i)) for i in range(CLIPS)]
        ours = [sys.executable, "-m", "benchmarks.peers.score_by_ferflow"]
        kinds = {
            "fer 25.10.3": [str(python), str(HERE / "score_by_fer.py")],
            BUDGET: [*ours, str(model(Path(folder) / "budget", whole_course(PreprocessConfig())))],
            ALL: [*ours, str(model(Path(folder) / "all", PreprocessConfig(equalize="none")))],
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, command in kinds.items():
                runs[name].append(one_run([*command, *clips]))
    print_table({name: {key: float(np.median([run[key] for run in found])) for key in found[0]}
                 for name, found in runs.items()}, rounds)  # fmt: skip


def installed(folder: Path) -> Path:
    """Return the Python of the environment with `fer`, which is made if needed."""
    python, done = folder / "bin" / "python", folder / f"{FER}.installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", FER], check=True)
        subprocess.run([*pip, *IMPORTED], check=True)
        done.touch()
    return python


def write_clip(path: Path, number: int) -> Path:
    """Write a clip of the portrait inside scikit-image (NASA, public domain), which moves a little."""
    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for frame in range(N_FRAMES):
            left, top = 110 + round(15 * np.sin((frame + 9 * number) / 20)), 5 + round(5 * np.cos(frame / 15 + number))
            shown = cv2.resize(picture[top : top + 225, left : left + 300], (640, 480), interpolation=cv2.INTER_LINEAR)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="gray")))
        out.mux(stream.encode(None))
    return path


def model(folder: Path, preprocess: PreprocessConfig) -> Path:
    """Write the adopted network, as `ferflow adopt fer2013` does, with these preprocessing settings."""
    cfg, backbone = RunConfig(preprocess=preprocess), adopted_backbone("fer2013")
    facts = ModelFacts(model="adopted", preprocess=preprocess, synthetic=False)
    write_bundle(folder, adopted_classifier(backbone, "neutral", cfg), backbone, facts)
    return folder


def one_run(command: list[str]) -> dict[str, float]:
    """Return the seconds and CPU seconds of a process to its first verdict and per later verdict, and its memory."""
    started = time.time()
    run = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1])
    if run.returncode:
        raise RuntimeError(f"{command[0]} failed: {run.stderr[-2000:]}")
    said = json.loads(run.stdout.splitlines()[-1])
    if not all(emotion and used for emotion, used in said["verdicts"]):
        raise RuntimeError(f"a clip has no verdict: {said['verdicts']}")
    (first, first_cpu), (last, last_cpu) = said["marks"]
    more = CLIPS - 1
    return {
        "first": first - started, "first_cpu": first_cpu,
        "warm": (last - first) / more, "warm_cpu": (last_cpu - first_cpu) / more, "mib": said["peak_mib"],
    }  # fmt: skip


def print_table(found: dict[str, dict[str, float]], rounds: int) -> None:
    print(f"Clips of {N_FRAMES} frames, 640x480; medians of {rounds} runs of each, alternated.\n")
    print("| | to the first verdict, s | CPU s | a verdict, warm, s | CPU s | peak memory, MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, run in found.items():
        cells = (f"{run[key]:.2f}" for key in ("first", "first_cpu", "warm", "warm_cpu"))
        print(f"| {name} | {' | '.join(cells)} | {run['mib']:.0f} |")
    fer, *_ = found.values()
    print("\n| against fer | verdicts a second, warm | goal | CPU time, warm | whole process | memory | goal |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, goal in GOALS.items():
        own = found[name]
        times = [f"{fer[key] / own[key]:.1f} x" for key in ("warm", "warm_cpu", "first")]
        memory = own["mib"] / fer["mib"]
        print(f"| {name} | {times[0]} | >= {goal} x | {times[1]} | {times[2]} | {memory:.2f} | <= {MEMORY_GOAL} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
