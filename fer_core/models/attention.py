"""Frame attention: a learned way from frames to a clip (the thesis's appendix; Meng et al. 2019, eq. 2-5)."""

from __future__ import annotations

import torch
from torch import nn

BEFORE_WEIGHTS, BEFORE_SCORES = 0.5, 0.6  # dropout before q₀, q₁ and W₁; before W₂


class FrameAttention(nn.Module):
    """Weighs the frames of a clip, joins them into one vector and scores that.

    With frame features fᵢ of size d and the sigmoid σ:

    - self: αᵢ = σ(q₀ᵀfᵢ + b₀), f′ = Σαᵢfᵢ / Σαᵢ, scores = W₁f′;
    - self + relation: βᵢ = σ(q₁ᵀ[fᵢ : f′] + b₁), f″ = Σαᵢβᵢ[fᵢ : f′] / Σαᵢβᵢ, scores = W₂f″.

    The published code weighs f″ by αᵢ alone when it evaluates, but still divides by Σαᵢβᵢ: a slip that its training
    does not share. It is kept out here: evaluation is training without dropout.

    Args:
        n_features: d.
        n_classes: scores a clip gets.
        relation: whether frames are weighed a second time, against the clip vector.
    """

    def __init__(self, n_features: int, n_classes: int, *, relation: bool) -> None:
        super().__init__()
        self.relation = relation
        self.dropout = nn.Dropout(BEFORE_WEIGHTS)
        self.alpha = nn.Linear(n_features, 1)
        if relation:
            self.beta = nn.Linear(2 * n_features, 1)
            self.before_scores = nn.Dropout(BEFORE_SCORES)
            self.scores = nn.Linear(2 * n_features, n_classes)
        else:
            self.before_scores = self.dropout
            self.scores = nn.Linear(n_features, n_classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(b, k) logits of (b, n, d) frames; n >= 1, any n."""
        joined, share = self._weighed(frames)
        return self.scores(self.before_scores((share * joined).sum(dim=1)))

    def by_frame(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, n, k) logits of the single frames and (b, n) how much each counts, sum 1: a clip's logits are their mean
        by these weights."""
        joined, share = self._weighed(frames)
        return self.scores(joined), share.squeeze(2)

    def _weighed(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is joined of each frame, (b, n, d) or (b, n, 2d), and its share in the clip vector, (b, n, 1)."""
        alpha = torch.sigmoid(self.alpha(self.dropout(frames)))
        share = alpha / alpha.sum(dim=1, keepdim=True)
        if self.relation:
            clip = (share * frames).sum(dim=1, keepdim=True)
            frames = torch.cat([frames, clip.expand_as(frames)], dim=2)
            both = alpha * torch.sigmoid(self.beta(self.dropout(frames)))
            share = both / both.sum(dim=1, keepdim=True)
        return frames, share
