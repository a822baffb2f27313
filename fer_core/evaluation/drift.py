"""Drift: how the clips of a batch differ from those that a model was trained on.

A model is as good on new clips as on its own only if they look alike. Five measures are compared: size of the face,
brightness, share of frames without a face, confidence, and the mix of verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from fer_core.errors import DataError
from fer_core.preprocess.clip_measures import ClipMeasures
from fer_core.preprocess.faces import Ledger

MEASURES = {
    "face_size": "size of the face, pixels",
    "brightness": "brightness of the face, 0 to 255",
    "no_face": "share of frames without a face",
    "confidence": "confidence",
}
MIX = "verdicts"
BINS = 10  # of the population stability index, at the deciles of the reference
SOME, STRONG = 0.1, 0.25  # PSI, by the usual convention
RARE, DOUBT = 0.01, 0.05  # largest p of a strong, and of some, difference
FEWEST = 30  # clips on either side; with fewer, chance alone gives a PSI above 0.25


class Level(StrEnum):
    """How much a measure differs."""

    NONE = "none"
    SOME = "some"
    STRONG = "strong"
    TOO_FEW = "too few clips"


@dataclass(frozen=True)
class Sample:
    """Measures of some clips.

    Args:
        values: measure -> values of the clips in which it is known, none of them NaN.
        verdicts: class -> number of clips.
    """

    values: Mapping[str, np.ndarray]
    verdicts: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return JSON-able values."""
        values = {name: [round(float(v), 4) for v in self.values[name]] for name in MEASURES}
        return {"values": values, "verdicts": dict(self.verdicts)}

    @classmethod
    def from_json(cls, data: Any) -> Sample:
        """Read the data of `to_json`. Raises DataError if it is no sample."""
        try:
            values = {name: np.array(data["values"][name], dtype=np.float64).reshape(-1) for name in MEASURES}
            return cls(values, {str(name): int(n) for name, n in data["verdicts"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise DataError(f"it is no record of the training clips ({exc})") from exc


@dataclass(frozen=True)
class Difference:
    """One measure of a batch against the reference.

    Args:
        measure: one of `MEASURES`, or `MIX`.
        n_reference, n: numbers of clips.
        before, now: medians; NaN for the mix, and without clips.
        psi: population stability index; NaN with too few clips.
        statistic: Kolmogorov-Smirnov statistic, the largest distance of the two distributions; NaN for the mix.
        p_value: of the Kolmogorov-Smirnov test, or of the chi-square test of the mix. Clips of one person are alike, so
            it is smaller than it should be.
        level: how much it differs.
    """

    measure: str
    n_reference: int
    n: int
    before: float
    now: float
    psi: float
    statistic: float
    p_value: float
    level: Level


def sample_of(ledgers: Iterable[Ledger], confidence: Sequence[float], verdicts: Iterable[str]) -> Sample:
    """Return the measures of clips.

    Args:
        ledgers: the clips' frames.
        confidence: of the clips with a verdict.
        verdicts: their classes.
    """
    measures = ClipMeasures()
    for ledger in ledgers:
        measures.add(ledger)
    return sample_from(measures, confidence, Counter(map(str, verdicts)))


def sample_from(measures: ClipMeasures, confidence: Sequence[float], verdicts: Mapping[str, int]) -> Sample:
    """Return the sample of clips that were measured one by one.

    Args:
        confidence: of the clips with a verdict.
        verdicts: class -> number of clips.
    """
    values = {name: np.array(given) for name, given in measures.values.items()}
    values["confidence"] = np.array(confidence, dtype=np.float64)
    return Sample({name: given[np.isfinite(given)] for name, given in values.items()}, Counter(verdicts))


def drift(reference: Sample, sample: Sample) -> list[Difference]:
    """Return the difference of every measure, the mix of verdicts last."""
    found = [_difference(name, reference.values[name], sample.values[name]) for name in MEASURES]
    return [*found, _mix(reference.verdicts, sample.verdicts)]


def stability_index(reference: np.ndarray, values: np.ndarray) -> float:
    """Return the population stability index of two samples: Σ (qᵢ - pᵢ) ln(qᵢ / pᵢ) over bins of the reference.

    The bins are the deciles of the reference; equal deciles are one. Half a clip is added to every bin, so that an
    empty bin gives no infinity.

    Args:
        reference, values: (m,) and (n,), m and n >= 1.
    """
    inner = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1))[1:-1])
    return _index(*(np.bincount(np.searchsorted(inner, v, side="right"), minlength=len(inner) + 1)
                    for v in (reference, values)))  # fmt: skip


def _index(before: np.ndarray, now: np.ndarray) -> float:
    """Return the index of two (b,) arrays of counts; bins that are empty on both sides do not count."""
    filled = before + now > 0
    before, now = before[filled], now[filled]
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def _difference(name: str, before: np.ndarray, now: np.ndarray) -> Difference:
    then, here = (float(np.median(v)) if len(v) else np.nan for v in (before, now))
    if min(len(before), len(now)) < FEWEST:
        return Difference(name, len(before), len(now), then, here, np.nan, np.nan, np.nan, Level.TOO_FEW)
    from scipy.stats import ks_2samp  # takes half a CPU second, which the batch of a few clips does not need

    psi, test = stability_index(before, now), ks_2samp(before, now)
    p = float(test.pvalue)
    return Difference(name, len(before), len(now), then, here, psi, float(test.statistic), p, _level(psi, p))


def _mix(before: Mapping[str, int], now: Mapping[str, int]) -> Difference:
    names = sorted({*before, *now})
    counts = np.array([[side.get(name, 0) for name in names] for side in (before, now)], dtype=np.int64)
    n = counts.sum(axis=1).tolist() if names else [0, 0]
    if min(n) < FEWEST:
        return Difference(MIX, n[0], n[1], np.nan, np.nan, np.nan, np.nan, np.nan, Level.TOO_FEW)
    from scipy.stats import chi2_contingency

    psi = _index(counts[0], counts[1])
    p = float(chi2_contingency(counts).pvalue) if len(names) > 1 else 1.0
    return Difference(MIX, n[0], n[1], np.nan, np.nan, psi, np.nan, p, _level(psi, p))


def _level(psi: float, p: float) -> Level:
    if psi > STRONG and p < RARE:
        return Level.STRONG
    return Level.SOME if psi > SOME and p < DOUBT else Level.NONE
