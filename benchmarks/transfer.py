"""Fine-tuning the last block from stored maps against from pixels, and what an augmented view of a face costs."""

from __future__ import annotations

import statistics

import numpy as np
import torch
from torch import nn

from benchmarks.features import seconds
from fer_core.config import AugmentConfig, TrainConfig
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.augment import View
from fer_core.features.torch_backbone import IMAGENET, TorchBackbone
from fer_core.models.fc_head import BlockAndHead, build_head
from fer_core.preprocess.faces import Faces, FrameStatus, Ledger
from fer_core.training.fit_epochs import build_optimizer

FRAMES = 20  # one batch of Table 4.1
ROUNDS = 3


def main() -> None:
    """Print one row per backbone; medians of a few rounds."""
    faces = _faces()
    view = 1000 * statistics.median(seconds(lambda: View(1, AugmentConfig(blur=1)).of(faces)) for _ in range(9))
    print(
        f"A batch of {FRAMES} faces, fp32, {torch.get_num_threads()} threads, random weights, head 256; all per frame. "
        f"A view of a face is drawn in {view / FRAMES:.2f} ms; its features cost as much as the plain face's, once\n"
    )
    print("| backbone | features ms | stored KB: features, maps | step from maps ms | step from pixels ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("vgg16", "efficientnet-lite0", "resnet18"):
        backbone = TorchBackbone(name, ARCHITECTURES[name].build(), IMAGENET, {}, (), torch.device("cpu"))
        maps, step = backbone.maps(faces.pixels), _step(backbone, faces.pixels)
        features = statistics.median(seconds(lambda: backbone.features(faces.pixels)) for _ in range(ROUNDS))  # noqa: B023
        trunk = statistics.median(seconds(lambda: backbone.maps(faces.pixels)) for _ in range(ROUNDS))  # noqa: B023
        kilobytes = f"{2 * backbone.n_features / 1000:.1f}, {maps.nbytes / FRAMES / 1000:.1f}"
        per_frame = [1000 * s / FRAMES for s in (features, step, trunk + step)]
        print(
            f"| {name} | {per_frame[0]:.1f} | {kilobytes} | {per_frame[1]:.1f} | {per_frame[2]:.1f} "
            f"| {per_frame[2] / per_frame[1]:.1f} |"
        )


def _step(backbone: TorchBackbone, pixels: np.ndarray) -> float:
    """Return the seconds of one optimiser step of block and head on maps in memory."""
    model = BlockAndHead(backbone.block, build_head(backbone.n_features, (256,), 6, 0.5, seed=0)).train()
    optimizer = build_optimizer(model, TrainConfig(transfer="last_block"), model.block)
    maps, labels = torch.from_numpy(backbone.maps(pixels)).float(), torch.arange(FRAMES) % 6

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(maps), labels).backward()
        optimizer.step()

    step()
    return statistics.median(seconds(step) for _ in range(ROUNDS))


def _faces() -> Faces:
    ledger = Ledger(
        np.arange(FRAMES, dtype=np.int32), np.zeros(FRAMES, np.float32), (FrameStatus.USED,) * FRAMES,
        np.zeros((FRAMES, 4), np.int32), np.ones(FRAMES, np.float32),
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (FRAMES, 224, 224), dtype=np.uint8)
    return Faces(key="0" * 32, clip_digest="", pixels=pixels, ledger=ledger, n_frames=FRAMES)


if __name__ == "__main__":
    main()
