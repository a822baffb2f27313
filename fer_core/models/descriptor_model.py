"""Base of the models that classify a descriptor by scikit-learn: support vectors and random forest (§1.3.1)."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from fer_core.clips.splits import grouped_folds
from fer_core.config import WeightScheme
from fer_core.dataset.table import FeatureTable
from fer_core.features.descriptors.catalogue import DescriptorName
from fer_core.features.descriptors.descriptor import Descriptor
from fer_core.models.base import ClassifierRecord, ClipClassifier, ClipModel, Fits, FitSplit, Fitted, Temperature
from fer_core.models.temperature import fit_temperature
from fer_core.training.imbalance import class_weights

INNER_FOLDS = 5
# least fitted temperature: if the few dozen clips are all classified correctly, the fit would otherwise go to 0
SHARPEST = 0.1


class DescriptorRecord(ClassifierRecord):
    """Record of a classifier of one descriptor; `temperature` calibrates its scores."""

    descriptor: DescriptorName
    n_features: int = Field(ge=1, le=1_000_000)
    temperature: Temperature


@dataclass(frozen=True)
class DescriptorClassifier(ClipClassifier):
    """A fitted classifier of one descriptor."""

    record: DescriptorRecord

    @property
    def descriptors(self) -> tuple[str, ...]:
        return (self.record.descriptor,)

    def to_record(self) -> DescriptorRecord:
        return self.record


@dataclass(frozen=True)
class DescriptorModel(ClipModel):
    """A classifier of one descriptor.

    Args:
        descriptor: the descriptor that it reads.
        weighting: scheme of the class weights, which are computed from the numbers of clips.
    """

    descriptor: Descriptor
    weighting: WeightScheme

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (self.descriptor,)

    @property
    def stops_early(self) -> bool:
        return False

    @property
    @abstractmethod
    def choices(self) -> tuple[Mapping[str, float], ...]:
        """Candidate settings. With several, inner folds by subject select the best, and its scores give the
        temperature.

        With only one, there are no inner folds and the scores are not calibrated.
        """

    @abstractmethod
    def learn(
        self, rows: np.ndarray, labels: np.ndarray, weights: dict[int, float], seed: int, choice: Mapping[str, float]
    ) -> DescriptorClassifier:
        """Fit an uncalibrated classifier with the setting `choice`.

        Args:
            rows: (n, d) descriptors of the clips. labels: (n,) classes. weights: class -> weight.
        """

    def complete(self, classifier: DescriptorClassifier, rows: np.ndarray, seed: int) -> DescriptorClassifier:
        """Return the selected classifier with what its scores do not need, so that the inner fits do without it.

        Args:
            rows: (n, d) descriptors of the clips that it was fitted to.
        """
        return classifier

    def select(self, recalls: Sequence[float], n_clips: int) -> int:
        """Return the position of the setting to use: the one with the best mean recall over the inner folds.

        Args:
            recalls: a mean recall for each of `choices`. n_clips: number of clips they were measured on.
        """
        return int(np.argmax(recalls))

    def fit(self, fits: Fits, side: FitSplit) -> Fitted:
        from sklearn.metrics import balanced_accuracy_score  # a second of import that scoring does without

        started = time.monotonic()
        table, k = fits.table, len(fits.table.classes)
        rows, labels = self.rows(table, side.fit), table.labels[side.fit]
        weights = dict(enumerate(class_weights(np.bincount(labels, minlength=k), self.weighting)))
        choice, temperature = self.choices[0], 1.0
        if len(self.choices) > 1:
            inner = [self.inner_scores(table, side, weights, choice) for choice in self.choices]
            recalls = [float(balanced_accuracy_score(labels, scores.argmax(axis=1))) for scores in inner]
            best = self.select(recalls, len(labels))
            choice = self.choices[best]
            temperature = max(fit_temperature(inner[best], labels), SHARPEST)
        classifier = self.complete(self.learn(rows, labels, weights, side.seed, choice), rows, side.seed)
        temperature *= classifier.record.temperature
        record = classifier.record.model_copy(update={"temperature": temperature})
        return Fitted(
            classifier=replace(classifier, record=record),
            seconds=time.monotonic() - started,
            selected={**choice, "temperature": temperature},
        )

    def inner_scores(
        self, table: FeatureTable, side: FitSplit, weights: dict[int, float], choice: Mapping[str, float]
    ) -> np.ndarray:
        """Return (n, k) out-of-fold scores of the training clips: no fit contains the subject of the clip it scores."""
        subjects, labels = [table.subjects[c] for c in side.fit], table.labels[side.fit]
        scores = np.zeros((len(labels), len(table.classes)))
        for train, held_out in grouped_folds(subjects, labels, min(INNER_FOLDS, len(set(subjects))), side.seed):
            present = np.unique(labels[train])  # a class that only held-out subjects have gets score 0
            found: np.ndarray | float = 1.0
            if len(present) > 1:
                classifier = self.learn(self.rows(table, side.fit[train]), labels[train], weights, side.seed, choice)
                found = classifier.scores(table, side.fit[held_out])
            scores[np.ix_(held_out, present)] = found
        return scores

    def rows(self, table: FeatureTable, clips: np.ndarray) -> np.ndarray:
        """Return (n, d) descriptors of the clips at the positions `clips`."""
        described = table.described[self.descriptor.name]
        return described.reshape(len(described), -1)[clips]
