"""A temperature that makes clip scores mean what they say, fitted on clips that were not fitted to."""

from __future__ import annotations

import numpy as np

from fer_core.errors import ShapeError
from fer_core.models.verdict import apply_temperature

_TINY = 1e-7  # a class no frame voted for still has a probability


_LOWEST, _HIGHEST = 0.05, 20.0


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log p of the true class, nats; (n, k) probabilities, (n,) labels.

    By hand: a fit asks for it a hundred times, and scikit-learn's checks cost more than the sum.
    """
    right = np.take_along_axis(_checked(probabilities, labels), labels[:, None], axis=1)
    return float(-np.log(np.maximum(right, _TINY)).mean())


def fit_temperature(clip_scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least negative log likelihood (Guo et al. 2017), between 0.05 and 20.

    Fit it on out-of-fold scores: on the clips a model was trained on, it would only learn how well they were learnt.

    Args:
        clip_scores: (n, k) clip scores, rows sum to 1; n >= 1.
        labels: (n,) columns.
    Raises:
        ShapeError: the two do not fit together.
    """
    from scipy.optimize import minimize_scalar  # scoring does without it

    _checked(clip_scores, labels)
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(apply_temperature(clip_scores, float(np.exp(log_t))), labels),
        bounds=(np.log(_LOWEST), np.log(_HIGHEST)),
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x))


def _checked(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if scores.ndim != 2 or not len(scores) or labels.shape != (len(scores),):
        raise ShapeError(f"needs (n, k) scores and (n,) labels with n >= 1, but got {scores.shape} and {labels.shape}")
    return scores
