"""A search with stored features against one that runs the convolutions again in every epoch."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.features import seconds
from benchmarks.head_step import step_seconds
from fer_core.config import TrainConfig
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import BATCH
from fer_core.features.torch_backbone import IMAGENET, TorchBackbone
from fer_core.models.fc_head import build_head
from fer_core.runtime import resolve_threads
from fer_core.training.fit_epochs import build_optimizer

TRIALS, EPOCHS, FRAMES, BATCH_SIZE = 20, 10, 1600, 20
MEASURED_FRAMES = 32
TARGETS = {(4096, 4096): 6, (1024, 256): 25, (512, 256): 50}


def main() -> None:
    """Print one row per head: measured on a subset in this run, scaled to the whole search."""
    backbone = TorchBackbone("vgg16", ARCHITECTURES["vgg16"].build(), IMAGENET, {}, (), torch.device("cpu"))
    faces = np.random.default_rng(0).integers(0, 256, (MEASURED_FRAMES, 224, 224), dtype=np.uint8)
    backbone.features(faces[:BATCH])
    print(
        f"{TRIALS} trials x {EPOCHS} epochs on {FRAMES} frames, VGG16, batch {BATCH_SIZE}. Measured: features of "
        f"{MEASURED_FRAMES} frames and a dozen steps of each head; the rest is scaled from them\n"
    )
    print("| head | forward ms a frame | step ms | stored features min | forward every epoch min | ratio | target |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for widths, target in TARGETS.items():
        forward = seconds(lambda: backbone.features(faces)) / MEASURED_FRAMES
        head = build_head(backbone.n_features, widths, 6, 0.5, seed=0)
        torch.set_num_threads(resolve_threads(0, head.n_weights))
        optimizer = build_optimizer(head, TrainConfig())
        step = step_seconds(head, optimizer, torch.rand(BATCH_SIZE, backbone.n_features), 12)
        torch.set_num_threads(resolve_threads(0, 1 << 30))
        heads = TRIALS * EPOCHS * FRAMES / BATCH_SIZE * step
        stored, naive = FRAMES * forward + heads, TRIALS * EPOCHS * FRAMES * forward + heads
        name = "-".join(map(str, widths))
        print(
            f"| {name} | {1000 * forward:.0f} | {1000 * step:.1f} | {stored / 60:.1f} | {naive / 60:.0f} "
            f"| {naive / stored:.0f} | {target} |"
        )


if __name__ == "__main__":
    main()
