"""A random forest of one descriptor (Breiman 2001), fitted by scikit-learn; all trees share one set of arrays
(§1.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from fer_core.errors import WeightsError
from fer_core.features.inputs import ClipInputs
from fer_core.models.base import take
from fer_core.models.descriptor_model import DescriptorClassifier, DescriptorModel, DescriptorRecord
from fer_core.models.verdict import apply_temperature

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier


_DTYPES = {
    "roots": torch.int64, "left": torch.int64, "right": torch.int64, "feature": torch.int64,
    "threshold": torch.float64, "shares": torch.float64,
}  # fmt: skip


class ForestRecord(DescriptorRecord):
    """Record of a random forest; `temperature` calibrates its mean class shares."""

    kind: Literal["forest"] = "forest"


@dataclass(frozen=True)
class ForestClassifier(DescriptorClassifier):
    """A fitted random forest: a clip's scores are the class shares of the leaf that it reaches, averaged over the
    trees.

    Args:
        roots: (T,) index of the first node of each tree.
        left, right: (m,) indices of a node's children, which are larger than the node's own; -1 in a leaf.
        feature, threshold: (m,) a clip goes left if the value of the feature is at most the threshold.
        shares: (m, k) class shares in each node.
    """

    Record = ForestRecord

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    shares: np.ndarray

    @property
    def n_parameters(self) -> int:
        """Two values (feature and threshold) for each inner node and k class shares for each leaf."""
        leaves = int((self.left < 0).sum())
        return 2 * (len(self.left) - leaves) + leaves * self.shares.shape[1]

    def scores(self, inputs: ClipInputs, clips: np.ndarray) -> np.ndarray:
        rows = inputs.described[self.record.descriptor][clips].reshape(len(clips), -1).astype(np.float32)
        node = np.tile(self.roots, (len(rows), 1))
        while (inner := self.left[node] >= 0).any():
            value = np.take_along_axis(rows, np.maximum(self.feature[node], 0), axis=1)
            child = np.where(value <= self.threshold[node], self.left[node], self.right[node])
            node = np.where(inner, child, node)
        shares: np.ndarray = self.shares[node].mean(axis=1)
        return apply_temperature(shares / shares.sum(axis=1, keepdims=True), self.record.temperature)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(getattr(self, name)) for name in _DTYPES}

    @classmethod
    def of(cls, model: RandomForestClassifier, descriptor: str, temperature: float) -> ForestClassifier:
        """Convert a fitted scikit-learn forest into a classifier."""
        trees = [estimator.tree_ for estimator in model.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
        behind = [
            [np.where(side < 0, -1, side + root) for side in (tree.children_left, tree.children_right)]
            for tree, root in zip(trees, roots, strict=True)
        ]
        return cls(
            record=ForestRecord(descriptor=descriptor, n_features=model.n_features_in_, temperature=temperature),
            roots=roots.astype(np.int64),
            left=np.concatenate([left for left, _ in behind]).astype(np.int64),
            right=np.concatenate([right for _, right in behind]).astype(np.int64),
            feature=np.concatenate([tree.feature for tree in trees]).astype(np.int64),
            threshold=np.concatenate([tree.threshold for tree in trees]),
            shares=np.concatenate([tree.value[:, 0] for tree in trees]),
        )

    @classmethod
    def build(cls, record: ForestRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> ForestClassifier:
        m = len(tensors.get("left", ()))
        shapes = dict.fromkeys(_DTYPES, (m,)) | {"roots": (-1,), "shares": (m, n_classes)}
        found = cls(record, **take(tensors, shapes, _DTYPES))
        nodes, inner = np.arange(m), found.left >= 0
        ahead = all(((child > nodes) & (child < m))[inner].all() for child in (found.left, found.right))
        known = ((found.feature >= 0) & (found.feature < record.n_features))[inner].all()
        rooted = len(found.roots) > 0 and ((found.roots >= 0) & (found.roots < m)).all()
        if not (ahead and known and rooted):
            raise WeightsError("the forest's trees do not lead from roots to leaves")
        return found


TREES = 400


@dataclass(frozen=True)
class Forest(DescriptorModel):
    """A random forest (Breiman 2001) of 400 trees."""

    @property
    def choices(self) -> tuple[Mapping[str, float], ...]:
        return ({},)

    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> ForestClassifier:
        from sklearn.ensemble import RandomForestClassifier  # a second of import that scoring does without

        model = RandomForestClassifier(TREES, class_weight=weights, random_state=seed)
        return ForestClassifier.of(model.fit(rows, labels), self.descriptor.name, 1.0)
