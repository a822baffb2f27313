"""Record and tensors -> classifier. Both may be anybody's: whatever does not fit is refused."""

from __future__ import annotations

import torch

from fer_core.errors import WeightsError
from fer_core.model.classifiers.head import HeadClassifier
from fer_core.models.base import ClipClassifier
from fer_core.models.clip_network import NetworkClassifier
from fer_core.models.forest import ForestClassifier
from fer_core.models.fusion import FusedClassifier
from fer_core.models.record import (
    ClassifierRecord,
    ForestRecord,
    FusedRecord,
    HeadRecord,
    NetworkRecord,
)
from fer_core.models.svm import SupportVectorsClassifier


def build_classifier(record: ClassifierRecord, tensors: dict[str, torch.Tensor], n_classes: int) -> ClipClassifier:
    """The classifier of a record, filled strictly.

    Raises:
        WeightsError, RuntimeError: a tensor too many, too few, or of another shape or type.
    """
    if isinstance(record, HeadRecord):
        return HeadClassifier.build(record, tensors, n_classes)
    if isinstance(record, NetworkRecord):
        return NetworkClassifier.build(record, tensors, n_classes)
    if isinstance(record, ForestRecord):
        return ForestClassifier.build(record, tensors, n_classes)
    if not isinstance(record, FusedRecord):
        return SupportVectorsClassifier.build(record, tensors, n_classes)
    parts: dict[str, dict[str, torch.Tensor]] = {"first": {}, "second": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        if part not in parts:
            raise WeightsError(f"tensor '{key[:60]}' belongs to neither part of a fused model")
        parts[part][name] = value
    first = build_classifier(record.first, parts["first"], n_classes)
    second = build_classifier(record.second, parts["second"], n_classes)
    return FusedClassifier(first, second, record.share, record.learned)
