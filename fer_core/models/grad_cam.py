"""Grad-CAM: where in a face a class's score comes from (Selvaraju et al. 2017), through the frozen convolutions."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from fer_core.features.backbone import TorchBackbone
from fer_core.models.fc_head import Head


def grad_cam(backbone: TorchBackbone, head: Head, pixels: np.ndarray, column: int) -> np.ndarray:
    """Heat maps of some faces for one class.

    The last maps A of the convolutions are weighted by the mean gradient of the class's logit y in each channel,
    αₖ = (1/hw) Σᵢⱼ ∂y/∂Aₖᵢⱼ, and summed: ReLU(Σₖ αₖ Aₖ), scaled to a largest value of 1 in each face.

    Args:
        pixels: (n, size, size) uint8 faces. column: of the class in the head's output.
    Returns:
        (n, size, size) float32 in [0, 1]; all 0 where nothing speaks for the class.
    """
    below, rest = _at_last_maps(backbone.block)
    with torch.no_grad():
        maps = below(torch.from_numpy(backbone.maps(pixels)).to(backbone.device).float())
    maps.requires_grad_(True)
    features = rest(maps).flatten(1).to(next(head.parameters()).device)  # a GPU's, read by a head on the CPU
    logits = head.eval()(features)[:, column]
    (gradient,) = torch.autograd.grad(logits.sum(), maps)  # a row's logit depends on its own maps alone
    coarse = (gradient.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1).relu().cpu().numpy()
    heat = np.zeros(pixels.shape, dtype=np.float32)
    for place, found in enumerate(coarse):
        if found.max() > 0:
            fine = cv2.resize(found / found.max(), pixels.shape[:0:-1], interpolation=cv2.INTER_CUBIC)
            heat[place] = np.clip(fine, 0, 1)
    return heat


def _at_last_maps(block: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """A block in two: up to the last maps that still have a height and a width, and what makes features of them.

    Its pooling is the first stage that is named so, or that flattens; before it all are convolutions.
    """
    stages = dict(block.named_children())
    names = list(stages)
    place = next(i for i, name in enumerate(names) if name in ("avgpool", "mean", "flatten"))
    return nn.Sequential(*(stages[n] for n in names[:place])), nn.Sequential(*(stages[n] for n in names[place:]))
