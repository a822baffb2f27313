"""What a fit trains (§2.8): the head alone on fixed features, or the backbone's last block and the head on maps."""

from __future__ import annotations

import copy

import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.errors import TrainingError
from fer_core.features.store import FeatureTable
from fer_core.models.fc_head import Head


class BlockAndHead(nn.Module):
    """A backbone's last block under a head, fine-tuned together; its batch normalisation keeps its statistics.

    With some twenty frames of a few people in a batch, batch statistics would be those of the people in it; scale and
    shift are trained, as all other weights of the block.
    """

    def __init__(self, block: nn.Module, head: Head) -> None:
        super().__init__()
        # contiguous weights: optimiser states read back from a checkpoint have this layout
        self.block = copy.deepcopy(block).to(memory_format=torch.contiguous_format).requires_grad_(True)
        self.head = head

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.block(maps.contiguous(memory_format=torch.channels_last)))
        return logits

    def fitted_block(self) -> nn.Module:
        """The block, frozen on the CPU in the layout of a `Backbone`'s."""
        block: nn.Module = self.block.cpu().eval().requires_grad_(False).to(memory_format=torch.channels_last)
        return block

    def train(self, mode: bool = True) -> BlockAndHead:
        super().train(mode)
        self.block.eval()  # it has no dropout
        return self


def sources(table: FeatureTable, cfg: TrainConfig, block: nn.Module | None) -> tuple[torch.Tensor, ...]:
    """The tensors a fit reads its frames from, one a view, the plain one first.

    Raises:
        TrainingError: the table was made for another setting and lacks them.
    """
    found = table.maps if cfg.transfer == "last_block" else (table.features, *table.views)
    if cfg.transfer == "last_block" and (block is None or not found):
        raise TrainingError("train.transfer is 'last_block', but the table holds no maps to fine-tune a block on")
    if len(found) < cfg.augment.views:
        raise TrainingError(f"train.augment.views is {cfg.augment.views}, but the table holds {len(found)} views")
    return found[: cfg.augment.views]
