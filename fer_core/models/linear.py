"""A linear layer that is fast for few rows and many weights, such as those of the thesis's head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

WIDE = 4_000_000  # number of weights above which oneDNN is faster; smaller layers are dominated by the call itself


class Linear(nn.Linear):
    """`nn.Linear` with the same weights and gradients, but wide layers on a CPU are multiplied by oneDNN.

    `functional.linear` multiplies by MKL's sgemm, which takes twice as long as oneDNN's inner product on 20 rows and
    25088 x 4096 weights (AMD EPYC; `python -m benchmarks head_step`).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, out) for (n, in)."""
        wide = x.ndim == 2 and x.device.type == "cpu" and x.dtype == torch.float32 and self.weight.numel() >= WIDE
        if wide and torch.backends.mkldnn.is_available():
            return _InnerProduct.apply(x, self.weight, self.bias)
        return functional.linear(x, self.weight, self.bias)


class _InnerProduct(torch.autograd.Function):
    """y = x Wᵀ + b, with dW = gᵀ x, db = Σ g, dx = g W."""

    @staticmethod
    def forward(ctx, x, weight, bias):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            g @ weight if of_x else None,
            _product(g.T, x.T, None) if of_weight else None,
            g.sum(dim=0) if of_bias else None,
        )


def _product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """a bᵀ + bias by oneDNN: the operator that torch.compile calls for a linear layer on a CPU."""
    return torch.ops.mkldnn._linear_pointwise(a.contiguous(), b.contiguous(), bias, "none", [], "")
