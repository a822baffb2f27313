"""Wide linear layers: PyTorch's numbers by another library's products."""

import pytest
import torch
from torch import nn

from fer_core.models.linear import WIDE, Linear

N_IN, N_OUT = 2048, 2048


@pytest.fixture
def pair():
    torch.manual_seed(0)
    ours, plain = Linear(N_IN, N_OUT), nn.Linear(N_IN, N_OUT)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def step(layer, x):
    x = x.clone().requires_grad_()
    y = layer(x)
    (y**2).sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]


def test_a_wide_layer_has_the_outputs_and_gradients_of_pytorchs(pair):
    assert N_IN * N_OUT >= WIDE
    x = torch.randn(20, N_IN)
    for ours, theirs in zip(step(pair[0], x), step(pair[1], x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_row_scores_the_same_bits_beside_other_rows_and_the_second_time(pair):
    x = torch.randn(32, N_IN)
    others = torch.cat([x[:1], torch.randn(31, N_IN)])
    with torch.inference_mode():
        first = pair[0](x)
        assert torch.equal(pair[0](others)[0], first[0])
        assert torch.equal(pair[0](x), first)


def test_frozen_weights_get_no_gradient(pair):
    layer = pair[0].requires_grad_(False)
    x = torch.randn(2, N_IN, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(x.grad[0], layer.weight.sum(dim=0), rtol=1e-4, atol=1e-3)
