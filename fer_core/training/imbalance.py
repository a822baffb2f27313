"""Class imbalance (§4.5): class weights of the loss, and over- or undersampling. Applies to training frames only."""

from __future__ import annotations

import numpy as np

from fer_core.config import Sampling, WeightScheme
from fer_core.errors import TrainingError

_EFFECTIVE_BETA = 0.999


def class_weights(counts: np.ndarray, scheme: WeightScheme) -> np.ndarray:
    """Return (k,) float64 class weights of the cross-entropy, mean 1: rare classes weigh more (§4.5).

    With nᶜ frames of class c, n frames in total and k classes, before scaling to mean 1:

    - none: 1, plain cross-entropy;
    - inverse_frequency: n / nᶜ, the thesis's "smaller class, larger weight" (cost-sensitive: Elkan 2001);
    - balanced: n / (k nᶜ), as in scikit-learn (King and Zeng 2001); after scaling equal to inverse_frequency;
    - square_root: √(n / nᶜ), half way between none and inverse_frequency on a log scale (Mahajan et al. 2018, for
      sampling);
    - effective_number: (1 - β) / (1 - β^nᶜ), β = 0.999 (Cui et al. 2019, eq. 2).

    With mean 1, a scheme changes the relative weights of the classes, but not the effective learning rate.

    Args:
        counts: (k,) training frames per class; all > 0.
    Raises:
        TrainingError: a class has no training frames.

    Example:
        >>> class_weights(np.array([100, 50, 50]), "inverse_frequency").round(2).tolist()
        [0.6, 1.2, 1.2]
    """
    counts = np.asarray(counts, dtype=np.float64)
    if (counts <= 0).any():
        raise TrainingError(f"class weights need frames of every class, but got counts {counts.astype(int).tolist()}")
    if scheme == "none":
        return np.ones(len(counts))
    if scheme == "square_root":
        weights = np.sqrt(counts.sum() / counts)
    elif scheme == "effective_number":
        weights = (1 - _EFFECTIVE_BETA) / (1 - _EFFECTIVE_BETA**counts)
    else:
        weights = counts.sum() / counts
    return weights / weights.mean()


def sample(rows: np.ndarray, labels: np.ndarray, sampling: Sampling, rng: np.random.Generator) -> np.ndarray:
    """Draw the training frames of one epoch (§4.5), not shuffled.

    With nᶜ frames of class c:

    - none: all frames;
    - over: maxᶜ nᶜ frames of every class: all of its frames, and the rest drawn from them with replacement;
    - under: minᶜ nᶜ frames of every class, drawn without replacement, different in each epoch
      (random over- and undersampling: Japkowicz and Stephen 2002).

    Together with `class_weights`, rare classes are favoured twice: the weights are computed from all training frames,
    not from the drawn ones.

    Args:
        rows: (n,) rows of the training frames.
        labels: (n,) their labels.
    """
    if sampling == "none":
        return rows
    members = [rows[labels == c] for c in np.unique(labels)]
    if sampling == "under":
        size = min(map(len, members))
        return np.concatenate([rng.choice(m, size, replace=False) for m in members])
    size = max(map(len, members))
    return np.concatenate([np.concatenate([m, rng.choice(m, size - len(m))]) for m in members])
