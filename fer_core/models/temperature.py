"""Temperature scaling: calibrate clip scores on clips that the model was not trained on."""

from __future__ import annotations

import numpy as np

from fer_core.errors import ShapeError
from fer_core.models.verdict import apply_temperature

_TINY = 1e-7  # avoids log(0): a class without votes keeps a small probability


_LOWEST, _HIGHEST = 0.05, 20.0


def negative_log_likelihood(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean of -log p of the true class, in nats, for (n, k) probabilities and (n,) labels.

    Not scikit-learn's `log_loss`: a fit calls this function a hundred times, and its checks cost more than the sum.
    """
    right = np.take_along_axis(_checked(probabilities, labels), labels[:, None], axis=1)
    return float(-np.log(np.maximum(right, _TINY)).mean())


def fit_temperature(clip_scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature between 0.05 and 20 with the smallest negative log likelihood (Guo et al. 2017).

    Use out-of-fold scores: a model is too confident on the clips that it was trained on.

    Args:
        clip_scores: (n, k) clip scores, rows sum to 1; n >= 1.
        labels: (n,) indices of the true classes.
    Raises:
        ShapeError: the shapes of scores and labels do not match.
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
