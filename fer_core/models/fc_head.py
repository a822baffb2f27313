"""The head: the fully connected layers that are trained (§4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fer_core.models.linear import Linear


class Head(nn.Sequential):
    """Linear, ReLU, dropout for each width, then a linear layer to the classes: VGG16's classifier, any width.

    Dropout p (§2.7; Srivastava et al. 2014): in training each hidden number is 0 with probability p, else divided by
    1 - p; in evaluation nothing is.
    """

    def __init__(self, n_features: int, widths: Sequence[int], n_classes: int, dropout: float) -> None:
        layers: list[nn.Module] = []
        for width in widths:
            layers += [Linear(n_features, width), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            n_features = width
        super().__init__(*layers, Linear(n_features, n_classes))

    @property
    def linears(self) -> list[Linear]:
        """The linear layers, first to last."""
        return [layer for layer in self if isinstance(layer, Linear)]

    @property
    def n_weights(self) -> int:
        """Trained numbers."""
        return sum(p.numel() for p in self.parameters())


def build_head(n_features: int, widths: Sequence[int], n_classes: int, dropout: float, seed: int) -> Head:
    """A head with PyTorch's default initialisation, the same for the same seed whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(n_features, widths, n_classes, dropout)


def start_from(head: Head, fc: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[int]:
    """Copy pretrained FC layers into the hidden layers of the same place and shape (§4.2.1).

    Args:
        fc: weight and bias of the checkpoint's FC layers, first to last but one.
    Returns:
        Places of the layers copied; the others keep their random weights, which a run must say.
    """
    copied = []
    with torch.no_grad():
        for place, (layer, (weight, bias)) in enumerate(zip(head.linears[:-1], fc, strict=False)):
            if layer.weight.shape == weight.shape:
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
                copied.append(place)
    return copied


@torch.inference_mode()
def frame_scores(head: Head, features: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """(n, k) float32 softmax scores of (n, d) features of any float type; dropout off.

    Batches are padded to `batch` rows, so a frame's score does not depend on its neighbours.
    """
    head.eval()
    first = head.linears[0]
    out = torch.empty((len(features), head.linears[-1].out_features))
    for start in range(0, len(features), batch):
        rows = features[start : start + batch].to(first.weight.device, torch.float32)
        padded = torch.zeros((batch, rows.shape[1]), device=rows.device)
        padded[: len(rows)] = rows
        out[start : start + len(rows)] = head(padded)[: len(rows)].softmax(dim=1).cpu()
    return out
