"""Grad-CAM (Selvaraju et al. 2017): heat maps of the face regions that raise the score of a class."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import nn

from fer_core.features.backbone import Backbone
from fer_core.features.neutral_reference import beside_difference
from fer_core.features.torch_backbone import one_network
from fer_core.models.fc_head import Head


def grad_cam(
    backbone: Backbone, head: Head, pixels: np.ndarray, column: int, neutral: np.ndarray | None = None
) -> np.ndarray:
    """Compute one heat map per face for one class.

    Each channel of the last convolutional maps A is weighted by the mean gradient of the class's logit y,
    αₖ = (1/hw) Σᵢⱼ ∂y/∂Aₖᵢⱼ. The heat map is ReLU(Σₖ αₖ Aₖ), scaled so that its largest value in each face is 1.

    Args:
        backbone: one torch network. If its features are averaged over a face and its mirror image, the maps are those
            of the face, and the features of the mirror image are constants.
        pixels: (n, size, size) uint8 faces.
        column: index of the class in the head's output.
        neutral: (d,) features of the neutral face, for a head that compares faces with it.
    Returns:
        (n, size, size) float32 in [0, 1]; all 0 for a face in which no region raises the class's score.
    """
    network = one_network(backbone)
    below, rest = _at_last_maps(network.block)
    with torch.no_grad():
        maps = below(torch.from_numpy(network.maps(pixels)).to(network.device).float())
    maps.requires_grad_(True)
    features = rest(maps).flatten(1).to(next(head.parameters()).device)  # the head may be on another device
    if backbone.mirror:
        mirrored = torch.from_numpy(network.features(np.ascontiguousarray(pixels[:, :, ::-1])))
        features = (features + mirrored.to(features)) / 2
    if neutral is not None:
        features = beside_difference(features, torch.from_numpy(neutral)[None].to(features.device))
    logits = head.eval()(features)[:, column]
    (gradient,) = torch.autograd.grad(logits.sum(), maps)  # the logit of a face depends on this face's maps only
    coarse = (gradient.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1).relu().cpu().numpy()
    heat = np.zeros(pixels.shape, dtype=np.float32)
    for place, found in enumerate(coarse):
        if found.max() > 0:
            fine = cv2.resize(found / found.max(), pixels.shape[:0:-1], interpolation=cv2.INTER_CUBIC)
            heat[place] = np.clip(fine, 0, 1)
    return heat


def _at_last_maps(block: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """Split a block in two: the stages up to the last maps with height and width, and the stages after them.

    The second part begins at the first stage named avgpool, mean or flatten; the stages before it are convolutions.
    """
    stages = dict(block.named_children())
    names = list(stages)
    place = next(i for i, name in enumerate(names) if name in ("avgpool", "mean", "flatten"))
    return nn.Sequential(*(stages[n] for n in names[:place])), nn.Sequential(*(stages[n] for n in names[place:]))
