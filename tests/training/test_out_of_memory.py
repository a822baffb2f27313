"""A batch that does not fit into the GPU's memory is computed in two halves; where these do not fit, the fit fails.

Without a GPU, the network refuses large batches with the error that torch raises on one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.errors import TrainingError
from fer_core.models.fc_head import build_head
from fer_core.training.fit_epochs import Memory, build_loss, run_epoch

WEIGHTS = np.array([0.2, 0.5, 2.3])


class Small(nn.Module):
    """A network on a GPU whose memory holds `most` rows."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        logits: torch.Tensor = self.network(x)
        return logits


def gradients_of(most: int, optimizer: bool = True) -> tuple[float, list[torch.Tensor], Memory]:
    """The loss of a batch of seven, the gradients of a head without dropout, and what was found about the memory."""
    network = Small(build_head(8, (5,), 3, 0.0, seed=1), most)
    rng = torch.Generator().manual_seed(0)
    batch = torch.randn(7, 8, generator=rng), torch.tensor([0, 0, 2, 1, 1, 0, 0])
    loss_fn, memory = build_loss(WEIGHTS, TrainConfig(label_smoothing=0.1)), Memory()
    steps = torch.optim.SGD(network.parameters(), lr=0.0) if optimizer else None
    loss, _, _ = run_epoch(network, [batch], loss_fn, steps, memory=memory)
    return loss, [p.grad for p in network.parameters() if p.grad is not None], memory


def test_two_halves_have_the_loss_and_the_gradients_of_the_whole_batch(caplog):
    loss, whole, memory = gradients_of(most=7)
    assert not memory.halved
    in_halves, halves, memory = gradients_of(most=4)
    assert memory.halved and in_halves == pytest.approx(loss, rel=1e-6)
    assert "a batch of 7 does not fit into the GPU's memory; it is computed in two halves" in caplog.text
    assert len(halves) == len(whole) == 4
    for ours, theirs in zip(halves, whole, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_validation_batch_is_halved_too():
    assert gradients_of(most=4, optimizer=False)[0] == pytest.approx(gradients_of(most=7, optimizer=False)[0], rel=1e-6)


def test_where_half_a_batch_does_not_fit_the_fit_fails_and_says_what_to_lower():
    with pytest.raises(TrainingError, match=r"does not suffice for 4 of a batch's 7 rows; lower train\.batch_size"):
        gradients_of(most=3)
