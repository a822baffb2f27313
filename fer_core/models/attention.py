"""Frame attention: a learned way from frames to a clip (the thesis's appendix; Meng et al. 2019, eq. 2-5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fer_core.dataset.table import FeatureTable
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClassifierRecord, FrameView
from fer_core.models.clip_network import CLIPS_AT_ONCE, Batch, ClipNetwork, NetworkClassifier, Standardize, in_chunks

THIRDS = 3  # frames of a clip in training
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
        """Frame vectors, (b, n, d) or (b, n, 2d), and the share of each in the clip vector, (b, n, 1)."""
        alpha = torch.sigmoid(self.alpha(self.dropout(frames)))
        share = alpha / alpha.sum(dim=1, keepdim=True)
        if self.relation:
            clip = (share * frames).sum(dim=1, keepdim=True)
            frames = torch.cat([frames, clip.expand_as(frames)], dim=2)
            both = alpha * torch.sigmoid(self.beta(self.dropout(frames)))
            share = both / both.sum(dim=1, keepdim=True)
        return frames, share


class AttentionRecord(ClassifierRecord):
    """Frame attention over standardised features."""

    kind: Literal["attention"] = "attention"
    n_features: int = Field(ge=1, le=100_000)
    relation: bool


class AttentionClassifier(NetworkClassifier):
    """Fitted frame attention."""

    Record = AttentionRecord

    @property
    def reads_features(self) -> bool:
        return True

    @classmethod
    def network(cls, record: ClassifierRecord, n_classes: int) -> nn.Module:
        record = cast(AttentionRecord, record)
        attention = FrameAttention(record.n_features, n_classes, relation=record.relation)
        return nn.Sequential(Standardize(record.n_features), attention)

    @classmethod
    def batches(cls, inputs: ClipInputs, clips: np.ndarray, size: int = CLIPS_AT_ONCE) -> Iterator[Batch]:
        """All frames of every clip; clips of the same length go together."""
        lengths = inputs.lengths[clips]
        for n in np.unique(lengths):
            for batch in in_chunks(clips[lengths == n], size):
                rows = inputs.offsets[batch][:, None] + np.arange(n)
                yield inputs.features[torch.from_numpy(rows)], batch

    @torch.inference_mode()
    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView:
        """The clip's logits are the mean of its frames' by their weights."""
        standardize, attention = cast(nn.Sequential, self.net)
        [(frames, _)] = self.batches(inputs, np.array([clip]))
        logits, shares = cast(FrameAttention, attention).by_frame(standardize(frames))
        return FrameView(logits[0].double().softmax(dim=1).numpy(), shares[0].double().numpy())


@dataclass(frozen=True)
class Attention(ClipNetwork):
    """Self-attention, or self + relation; three frames a clip in training, all of them in evaluation.

    Other than in the appendix all convolutions are frozen, so only q and W learn.
    """

    classifier = AttentionClassifier
    relation: bool

    @property
    def reads_features(self) -> bool:
        return True

    def record(self, table: FeatureTable) -> AttentionRecord:
        return AttentionRecord(n_features=table.n_features, relation=self.relation)

    def drawn(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """A clip as often as it has frames."""
        return np.repeat(clips, table.lengths[clips])

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """A draw is one frame of a clip's first, second and last third."""
        for batch in in_chunks(rng.permutation(self.drawn(table, clips)), self.recipe.batch_size):
            first, n = table.offsets[batch], table.lengths[batch]
            rows = first[:, None] + thirds(n, rng)
            yield table.features[torch.from_numpy(rows)], batch


def thirds(n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(b, 3) one random frame of each third of clips with (b,) n frames; thirds of a clip of one or two overlap."""
    edges = np.arange(THIRDS + 1) * n[:, None] // THIRDS
    low, high = edges[:, :-1], np.maximum(edges[:, 1:], edges[:, :-1] + 1)
    return np.minimum(rng.integers(low, high), n[:, None] - 1)
