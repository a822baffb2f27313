"""Frame attention: a network that weights the frames of a clip (the thesis's appendix; Meng et al. 2019, eq. 2-5)."""

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
BEFORE_WEIGHTS, BEFORE_SCORES = 0.5, 0.6  # dropout rates: before q₀, q₁ and W₁; before W₂


class FrameAttention(nn.Module):
    """Weights the frames of a clip, joins them into one vector, and predicts the scores from this vector.

    With frame features fᵢ of size d and the sigmoid σ:

    - self: αᵢ = σ(q₀ᵀfᵢ + b₀), f′ = Σαᵢfᵢ / Σαᵢ, scores = W₁f′;
    - self + relation: βᵢ = σ(q₁ᵀ[fᵢ : f′] + b₁), f″ = Σαᵢβᵢ[fᵢ : f′] / Σαᵢβᵢ, scores = W₂f″.

    In evaluation, but not in training, the published code weights f″ by αᵢ alone and still divides by Σαᵢβᵢ. We take
    this for an error and do not copy it: here, evaluation differs from training only in having no dropout.

    Args:
        n_features: d.
        n_classes: number of classes k.
        relation: whether frames are weighted a second time, by comparing each with the clip vector.
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
        """Return (b, n, k) logits of the single frames and their (b, n) weights, which sum to 1 over a clip.

        A clip's logits are the weighted mean of its frames' logits.
        """
        joined, share = self._weighed(frames)
        return self.scores(joined), share.squeeze(2)

    def _weighed(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the frame vectors, (b, n, d) or (b, n, 2d), and the weight of each in the clip vector, (b, n, 1)."""
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
        """Yield all frames of every clip; each batch holds clips with the same number of frames."""
        lengths = inputs.lengths[clips]
        for n in np.unique(lengths):
            for batch in in_chunks(clips[lengths == n], size):
                rows = inputs.offsets[batch][:, None] + np.arange(n)
                yield inputs.features[torch.from_numpy(rows)], batch

    @torch.inference_mode()
    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView:
        """Scores and weights of the frames; the clip's logits are the weighted mean of the frames' logits."""
        standardize, attention = cast(nn.Sequential, self.net)
        [(frames, _)] = self.batches(inputs, np.array([clip]))
        logits, shares = cast(FrameAttention, attention).by_frame(standardize(frames))
        return FrameView(logits[0].double().softmax(dim=1).numpy(), shares[0].double().numpy())


@dataclass(frozen=True)
class Attention(ClipNetwork):
    """Frame attention, self or self + relation. Training draws three frames of a clip; evaluation reads all frames.

    Unlike in the appendix, all convolutions are frozen: only q and W are trained.
    """

    classifier = AttentionClassifier
    relation: bool

    @property
    def reads_features(self) -> bool:
        return True

    def record(self, table: FeatureTable) -> AttentionRecord:
        return AttentionRecord(n_features=table.n_features, relation=self.relation)

    def drawn(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """Each clip is drawn once for each of its frames."""
        return np.repeat(clips, table.lengths[clips])

    def training(self, table: FeatureTable, clips: np.ndarray, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield one epoch's batches: each draw of a clip is a random frame of its first, second and last third."""
        for batch in in_chunks(rng.permutation(self.drawn(table, clips)), self.recipe.batch_size):
            first, n = table.offsets[batch], table.lengths[batch]
            rows = first[:, None] + thirds(n, rng)
            yield table.features[torch.from_numpy(rows)], batch


def thirds(n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (b, 3) indices: a random frame of each third of each clip. In a clip of one or two frames, thirds overlap.

    Args:
        n: (b,) numbers of frames.
    """
    edges = np.arange(THIRDS + 1) * n[:, None] // THIRDS
    low, high = edges[:, :-1], np.maximum(edges[:, 1:], edges[:, :-1] + 1)
    return np.minimum(rng.integers(low, high), n[:, None] - 1)
