"""Features by torch and by the engines that are installed, CPU ms a face and times as fast as torch; random weights.

Every version records how far its own verdicts agree (`ferflow train`); random weights can show the time only.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch

from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import BATCH
from fer_core.features.engines.engine import ENGINES, installed
from fer_core.features.engines.quantize import quantized
from fer_core.features.torch_backbone import IMAGENET, TorchBackbone

ROUNDS = 5


def main() -> None:
    """Print one row per network; the engines are timed in turn, medians of five rounds."""
    faces = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224), dtype=np.uint8)
    names = installed()
    print(f"A batch of {BATCH} faces, {torch.get_num_threads()} threads.\n")
    print(f"| network | torch | {' | '.join(names)} |")
    print("| --- " * (2 + len(names)) + "|")
    for network in ("vgg16", "efficientnet-lite0", "resnet18", "fer2013", "face-api"):
        known = ARCHITECTURES[network]
        torch.manual_seed(0)
        net = known.build()
        weights = dict(net.state_dict())
        plain = TorchBackbone(network, net, known.normalization or IMAGENET, weights, (), torch.device("cpu"))
        given = plain.normalize(faces).contiguous()
        int8 = quantized(plain.graph(given), [given.numpy()])
        backbones = [plain, *(plain.on_engine(n, int8 if ENGINES[n].precision == "int8" else b"") for n in names)]
        times: dict[str, list[float]] = {b.engine: [] for b in backbones}
        for backbone in backbones:
            backbone.features(faces)
        for _ in range(ROUNDS):
            for backbone in backbones:
                started = time.process_time()
                backbone.features(faces)
                times[backbone.engine].append(1000 * (time.process_time() - started) / BATCH)
        ms = {name: statistics.median(found) for name, found in times.items()}
        cells = [f"{ms[name]:.2f} ({ms['torch'] / ms[name]:.1f} x)" for name in names]
        print(f"| {network} | {ms['torch']:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
