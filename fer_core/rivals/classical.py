"""Descriptors under a classifier of scikit-learn: support vectors, and a forest (§1.3.1)."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fer_core.config import WeightScheme
from fer_core.evaluation.calibration import apply_temperature, fit_temperature
from fer_core.evaluation.metrics import mean_recall
from fer_core.rivals.material import Descriptor, Material
from fer_core.rivals.rival import Rival
from fer_core.training.imbalance import class_weights

COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)  # tried for C
TREES = 400


@dataclass(frozen=True)
class Classical(Rival):
    """A classifier of one descriptor.

    Args:
        descriptor: what it reads.
        weighting: how errors on rare classes are weighed, from clips.
    """

    descriptor: Descriptor
    weighting: WeightScheme

    @property
    def descriptors(self) -> tuple[Descriptor, ...]:
        return (self.descriptor,)

    @abstractmethod
    def candidates(self, weights: dict[int, float], seed: int) -> list[Pipeline]:
        """Unfitted classifiers; the best on the clips stopped on is kept."""

    @abstractmethod
    def size(self, model: Pipeline) -> int:
        """Learnt numbers of a fitted one."""

    def fit(self, data: Material, fit_clips: np.ndarray, stop_clips: np.ndarray, seed: int) -> FittedClassical:
        rows = rows_of(data, self.descriptor)
        labels, k = data.table.labels, len(data.table.classes)
        started = time.monotonic()
        counts = np.bincount(labels[fit_clips], minlength=k)
        weights = dict(enumerate(class_weights(counts, self.weighting)))
        best, highest = None, -1.0
        for model in self.candidates(weights, seed):
            model.fit(rows[fit_clips], labels[fit_clips])
            reached = mean_recall(model.predict(rows[stop_clips]), labels[stop_clips], k) if len(stop_clips) else 0.0
            if reached > highest:
                best, highest = model, reached
        assert best is not None
        temperature = 1.0
        if len(stop_clips):
            temperature = fit_temperature(class_scores(best, rows[stop_clips]), labels[stop_clips])
        return FittedClassical(best, self.descriptor, temperature, self.size(best), time.monotonic() - started)


@dataclass(frozen=True)
class SupportVectors(Classical):
    """A linear support vector machine on standardised numbers, one class against one; C chosen inside the fold."""

    def candidates(self, weights: dict[int, float], seed: int) -> list[Pipeline]:
        return [
            make_pipeline(StandardScaler(), SVC(kernel="linear", C=cost, class_weight=weights, break_ties=True))
            for cost in COSTS
        ]

    def size(self, model: Pipeline) -> int:
        scaler, svc = model[0], model[-1]
        return int(svc.coef_.size + svc.intercept_.size + scaler.mean_.size + scaler.scale_.size)


@dataclass(frozen=True)
class Forest(Classical):
    """A random forest (Breiman 2001)."""

    def candidates(self, weights: dict[int, float], seed: int) -> list[Pipeline]:
        return [make_pipeline(RandomForestClassifier(TREES, class_weight=weights, random_state=seed))]

    def size(self, model: Pipeline) -> int:
        """A feature and a threshold an inner node, the classes' shares a leaf."""
        trees = [tree.tree_ for tree in model[-1].estimators_]
        leaves = sum(int(t.n_leaves) for t in trees)
        inner = sum(int(t.node_count) for t in trees) - leaves
        return 2 * inner + leaves * len(model.classes_)


@dataclass(frozen=True)
class FittedClassical:
    """A fitted classifier."""

    model: Pipeline
    descriptor: Descriptor
    temperature: float
    n_parameters: int
    seconds: float
    history: None = None

    def scores(self, data: Material, clips: np.ndarray) -> np.ndarray:
        return apply_temperature(class_scores(self.model, rows_of(data, self.descriptor)[clips]), self.temperature)


def rows_of(data: Material, descriptor: Descriptor) -> np.ndarray:
    """(C, d) a descriptor of every clip, flat."""
    described = data.described(descriptor)
    return described.reshape(len(described), -1)


def class_scores(model: Pipeline, rows: np.ndarray) -> np.ndarray:
    """(n, k) rows that sum to 1: a forest's shares, or the softmax of the support vectors' decision values."""
    if hasattr(model, "predict_proba"):
        shares: np.ndarray = model.predict_proba(rows)
        return shares
    values = model.decision_function(rows)
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
