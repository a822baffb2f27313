"""ferflow's public API: verdicts on videos of faces, from a registered model.

    from ferflow import Scorer

    scorer = Scorer.champion()          # or Scorer("models:/face-emotion/3")
    verdict = scorer.score("clip.mp4")  # or an array, or frames one by one
    print(verdict.status, verdict.emotion, verdict.confidence)

What this module does not export may change without notice.
"""

from fer_core import __version__
from fer_core.runtime import prepare_torch

prepare_torch()  # before torch is imported

from fer_core.api import Scorer, Verdict  # noqa: E402
from fer_core.config import LimitsConfig, ScoreConfig  # noqa: E402
from fer_core.errors import ClipStatus, FerError  # noqa: E402

__all__ = ["ClipStatus", "FerError", "LimitsConfig", "ScoreConfig", "Scorer", "Verdict", "__version__"]
