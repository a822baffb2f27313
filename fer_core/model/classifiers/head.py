"""The thesis's own: FC layers over every frame, and a rule that joins the frames' scores (§4.1, §4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fer_core.config import Rule
from fer_core.errors import WeightsError
from fer_core.features.backbone import features_above
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import ClipClassifier, FrameView
from fer_core.models.fc_head import Head, frame_scores
from fer_core.models.record import HeadRecord
from fer_core.models.verdict import judge

_TIE = 1e-6


@dataclass(frozen=True)
class HeadClassifier(ClipClassifier):
    """A head under a rule.

    Args:
        head: on the CPU, in evaluation mode.
        tuned: a last block fine-tuned with it; it reads maps then. None: it reads features.
        rule: by which `scores` joins frames.
    """

    head: Head
    tuned: nn.Module | None = None
    rule: Rule = "mean_scores"

    @property
    def reads_features(self) -> bool:
        return True

    @property
    def judges_frames(self) -> bool:
        return True

    @property
    def block(self) -> nn.Module | None:
        return self.tuned

    @property
    def n_parameters(self) -> int:
        return self.head.n_weights + (sum(p.numel() for p in self.tuned.parameters()) if self.tuned else 0)

    def frame_scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        rows = inputs.frames_of(clips)
        if self.tuned is None:
            features = inputs.features[rows]
        else:
            features = torch.from_numpy(features_above(self.tuned, inputs.maps[0][rows]))
        found: np.ndarray = frame_scores(self.head, features).numpy()
        return found

    def frames_in(self, inputs: ClipInputs, clip: int) -> FrameView:
        scores = self.frame_scores(inputs, np.array([clip]))
        return FrameView(scores, np.full(len(scores), 1 / len(scores)))

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        """Clip scores by the rule; where votes are tied, the class of the rule's verdict is a hair ahead."""
        parts = np.split(self.frame_scores(inputs, clips), np.cumsum(inputs.lengths[clips])[:-1])
        verdicts = [judge(frames, self.rule) for frames in parts]
        shares = np.stack([verdict.scores for verdict in verdicts])
        ahead = np.eye(shares.shape[1])[[verdict.index for verdict in verdicts]]
        return (shares + _TIE * ahead) / (1 + _TIE)

    def to_record(self) -> HeadRecord:
        hidden = tuple(layer.out_features for layer in self.head.linears[:-1])
        dropout = next((float(layer.p) for layer in self.head if isinstance(layer, nn.Dropout)), 0.0)
        return HeadRecord(n_features=self.head.linears[0].in_features, widths=hidden, dropout=dropout)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {key: value.detach().cpu() for key, value in self.head.state_dict().items()}

    @classmethod
    def build(cls, record: HeadRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> HeadClassifier:
        with torch.device("meta"):
            head = Head(record.n_features, record.widths, n_classes, record.dropout)
        head.load_state_dict(tensors, strict=True, assign=True)
        if any(p.dtype != torch.float32 for p in head.parameters()):
            raise WeightsError("the head must be float32")
        return cls(head.eval().requires_grad_(False))
