"""A video of 20 minutes, scored in windows of 2 s by the default network: CPU time and memory.

The video repeats 10 s of a moving face, 640x480 at 25 frames per second. The packets are copied, so the file costs
nothing to make, and every frame of it is decoded, searched and scored like any other.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np
import skimage

from fer_core.config import BackboneConfig, LimitsConfig, PreprocessConfig, ScoreConfig, WindowsConfig
from fer_core.emotions import SIX
from fer_core.features.load_backbone import load_backbone
from fer_core.models.bundle import ModelBundle, write_bundle
from fer_core.models.fc_head import HeadClassifier, build_head
from fer_core.models.record import ModelFacts
from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer

RATE, PIECE_S = 25, 10
LENGTHS_MIN = (1, 5, 20)
WINDOWS = WindowsConfig(length_s=2, step_s=1)
WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main() -> None:
    """Print a table with a row per length; each length runs in a process of its own."""
    print("| video | CPU s | times real time, one core | wall s | windows | peak memory, MB | of the decoder, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for minutes in LENGTHS_MIN:
        command = [sys.executable, "-m", "benchmarks.long_video", str(minutes)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def measure(minutes: int) -> str:
    """Score a video of this length and return a row of the table. The model is loaded before the clock starts."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        video = long_video(root / "long.mp4", minutes * 60 // PIECE_S)
        limits = LimitsConfig(workers=1)
        scorer = ClipScorer(_bundle(root / "model"), ScoreConfig(windows=WINDOWS), limits=limits, store_root=root / "s")
        before = _cpu_s()
        started = time.perf_counter()
        batch = score_batch(scorer, collect([video]), root / "out", root / "s")
        wall = time.perf_counter() - started
        del scorer  # ends the decoding process, so that its time and memory are counted
        gc.collect()
        used = _cpu_s() - before
    windows = batch.rows[0].windows
    assert windows is not None
    own, decoder = (resource.getrusage(who).ru_maxrss // 1024 for who in WHO)
    return (
        f"| {minutes} min | {used:.0f} | {60 * minutes / used:.1f} | {wall:.0f} | {len(windows)} | {own} | {decoder} |"
    )


def long_video(path: Path, pieces: int) -> Path:
    """Write a video that repeats a piece of 10 s."""
    piece = path.with_suffix(".piece.mp4")
    with av.open(str(piece), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "23", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(RATE * PIECE_S):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(_frame(number), format="gray")))
        out.mux(stream.encode(None))
    with av.open(str(piece)) as source, av.open(str(path), "w") as out:
        template = source.streams.video[0]
        stream = out.add_stream_from_template(template)
        packets = [(bytes(p), p.pts, p.dts, p.duration, p.is_keyframe) for p in source.demux(template) if p.size]
        lasts = packets[0][3] * len(packets)
        for number in range(pieces):
            for data, pts, dts, duration, key in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.duration = pts + number * lasts, dts + number * lasts, duration
                packet.time_base, packet.stream, packet.is_keyframe = template.time_base, stream, key
                out.mux(packet)
    return path


def _frame(number: int) -> np.ndarray:
    """Return a picture of the portrait inside scikit-image (NASA, public domain), a little to the side."""
    picture = cv2.imread(str(Path(skimage.__file__).parent / "data" / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    left = 40 + round(20 * np.sin(number / 20))
    return cv2.resize(picture[:300, left : left + 400], (640, 480), interpolation=cv2.INTER_LINEAR)


def _bundle(folder: Path) -> ModelBundle:
    backbone = load_backbone(BackboneConfig())
    head = HeadClassifier(build_head(backbone.n_features, (128,), len(SIX), dropout=0.5, seed=0))
    return write_bundle(folder, head, backbone, ModelFacts(preprocess=PreprocessConfig(), synthetic=True))


def _cpu_s() -> float:
    found = [resource.getrusage(who) for who in WHO]
    return sum(usage.ru_utime + usage.ru_stime for usage in found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(int(sys.argv[1])))
    else:
        main()
