"""Backbone features, ms per frame, beside what the machine's own matrix multiplication allows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import BATCH
from fer_core.features.torch_backbone import IMAGENET, TorchBackbone

FRAMES = 24
ROUNDS = 5
MATRIX = 2048


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def conv_flop(net: nn.Module, given: torch.Tensor) -> float:
    """Return the floating-point operations of the net's convolutions for one face, two per multiply-add.

    Args:
        given: the input for one face.
    """
    total = 0.0

    def count(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += 2 * output[0].numel() * layer.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        net(given)
    for hook in hooks:
        hook.remove()
    return total


def main() -> None:
    """Print one row per backbone; multiplication and features are timed in turn, medians of five rounds."""
    faces = np.random.default_rng(0).integers(0, 256, (FRAMES, 224, 224), dtype=np.uint8)
    a = torch.rand(MATRIX, MATRIX)
    print(
        f"Features of {FRAMES} faces in batches of {BATCH}, fp32, {torch.get_num_threads()} threads; random weights\n"
    )
    print("| backbone | GFLOP a frame | sgemm GFLOPS | limit ms | features ms | share of the limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("vgg16", "efficientnet-lite0", "resnet18", "fer2013", "face-api"):
        known = ARCHITECTURES[name]
        backbone = TorchBackbone(name, known.build(), known.normalization or IMAGENET, {}, (), torch.device("cpu"))
        flop = conv_flop(nn.Sequential(backbone.trunk, backbone.block), backbone.normalize(faces[:1]))
        backbone.features(faces[:BATCH])
        gemm, features = [], []
        for _ in range(ROUNDS):
            gemm.append(min(seconds(lambda: a @ a) for _ in range(5)))
            features.append(seconds(lambda: backbone.features(faces)) / FRAMES)  # noqa: B023
        gflops = 2 * MATRIX**3 / statistics.median(gemm) / 1e9
        limit, took = flop / gflops / 1e6, 1000 * statistics.median(features)
        print(f"| {name} | {flop / 1e9:.2f} | {gflops:.0f} | {limit:.1f} | {took:.1f} | {100 * limit / took:.0f} % |")


if __name__ == "__main__":
    main()
