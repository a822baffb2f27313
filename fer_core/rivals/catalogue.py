"""The rivals by name, in the order of the thesis: its own head and rules, its appendix, the systems it reviews."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from fer_core.config import TrainConfig
from fer_core.errors import ConfigError
from fer_core.rivals import attention, recurrent, volume
from fer_core.rivals.attention import Attention
from fer_core.rivals.classical import Forest, SupportVectors
from fer_core.rivals.fused import Fused
from fer_core.rivals.heads import Head, HeadRule
from fer_core.rivals.material import Descriptor
from fer_core.rivals.motion import displacement, gradient_histograms
from fer_core.rivals.names import NAMES
from fer_core.rivals.recurrent import Recurrent
from fer_core.rivals.rival import Rival
from fer_core.rivals.texture import texture
from fer_core.rivals.volume import C3D

TEXTURE = Descriptor("texture", "expression", texture)
DISPLACEMENT = Descriptor("displacement", "course", displacement)
GRADIENTS = Descriptor("gradients", "course", gradient_histograms)


def rivals(
    names: Sequence[str], train: TrainConfig, *, epochs: int = 0, fc: Path | None = None, block: Path | None = None
) -> tuple[Rival, ...]:
    """The rivals of some names, in the order given.

    Args:
        train: the head's setting; its class weights, device and threads are everyone's.
        epochs: most epochs of the networks over clips; 0: those of their recipes.
        fc, block: stored layers of the backbone that the head starts from.
    Raises:
        ConfigError: a name is unknown or given twice.
    """
    for name in names:
        if name not in NAMES:
            close = get_close_matches(name, NAMES, n=1)
            raise ConfigError(
                f"there is no model '{name}'{f' (did you mean {close[0]!r}?)' if close else ''}; "
                f"there are {', '.join(NAMES)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"model '{name}' is named {names.count(name)} times; once is enough")
    every = _catalogue(train, epochs, fc, block)
    return tuple(every[name] for name in names)


def _catalogue(train: TrainConfig, epochs: int, fc: Path | None, block: Path | None) -> dict[str, Rival]:
    shared = train.model_dump(include={"class_weights", "device", "threads", "inner_share"})

    def recipe(own: TrainConfig) -> TrainConfig:
        return own.model_copy(update={**shared, "epochs": epochs or own.epochs})

    fan, rnn, c3d = (recipe(own) for own in (attention.RECIPE, recurrent.RECIPE, volume.RECIPE))
    weighting = train.class_weights
    head = Head("head", "FC head", train, fc, block)
    mean = HeadRule("head-mean", "FC head, mean scores (§4.1)", head, "mean_scores")
    lstm = Recurrent("lstm", "CNN features + LSTM (§1.3.2)", rnn)
    volumes = C3D("c3d", "C3D-small (§1.3.2)", c3d)
    moved = SupportVectors("displacement-svm", "point displacement + SVM (§1.3.1)", DISPLACEMENT, weighting)
    found: tuple[Rival, ...] = (
        mean,
        HeadRule("head-vote", "FC head, majority vote (§4.1)", head, "majority_vote"),
        HeadRule("head-log-mean", "FC head, mean log scores", head, "log_mean_scores"),
        Attention("fan-self", "frame attention, self (appendix)", fan, relation=False),
        Attention("fan-relation", "frame attention, self + relation (appendix)", fan, relation=True),
        lstm,
        volumes,
        Fused("lstm-c3d", "LSTM and C3D, averaged (§1.3.2)", lstm, volumes, learned=False),
        Fused("lstm-c3d-learned", "LSTM and C3D, share learnt (§1.3.2)", lstm, volumes, learned=True),
        SupportVectors("lbp-svm", "LBP + SVM (§1.3.1)", TEXTURE, weighting),
        Forest("lbp-forest", "LBP + random forest (§1.3.1)", TEXTURE, weighting),
        moved,
        Fused("appearance-displacement", "FC head and displacement (§1.3.2)", mean, moved, learned=True),
        SupportVectors("gradients-svm", "3-D gradient histograms + SVM (§1.3.1)", GRADIENTS, weighting),
    )
    return {rival.name: rival for rival in found}
