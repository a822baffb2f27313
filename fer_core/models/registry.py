"""The models by name, in the order of the thesis: its own head and rules, its appendix, the systems it reviews."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from fer_core.config import RECIPES, Rule, SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureRequirements
from fer_core.errors import ConfigError
from fer_core.features.augment import views_of
from fer_core.features.descriptors.catalogue import DISPLACEMENT, GRADIENTS, TEXTURE
from fer_core.model_names import COMPARED, FC_HEAD_MODELS, ModelName
from fer_core.models.attention import Attention
from fer_core.models.base import ClipModel
from fer_core.models.c3d import C3D
from fer_core.models.fc_head import FCHead, FCHeadRule
from fer_core.models.forest import Forest
from fer_core.models.fusion import Fusion
from fer_core.models.lstm import LSTM
from fer_core.models.svm import SupportVectors

HEAD_RULES: dict[str, tuple[Rule, str]] = {
    "head-mean": ("mean_scores", "FC head, mean scores (§4.1)"),
    "head-vote": ("majority_vote", "FC head, majority vote (§4.1)"),
    "head-log-mean": ("log_mean_scores", "FC head, mean log scores"),
}


LSTM_AND_C3D: tuple[ModelName, ModelName] = ("lstm", "c3d")


def model_of(train: TrainConfig, *, epochs: int = 0, fc: Path | None = None, block: Path | None = None) -> ClipModel:
    """The model that a setting names (`train.model`), with that setting.

    Args:
        epochs: most epochs of a network over clips, or of those in a fused model; 0: the setting's.
        fc, block: stored layers of the backbone that a head starts from.
    """
    name, weighting = train.model, train.class_weights
    if epochs and name in RECIPES:
        train = train.model_copy(update={"epochs": epochs})
    head = FCHead("head", "FC head (§4.2)", train.with_model("head") if name in FC_HEAD_MODELS else train, fc, block)
    if name == "head":
        return head
    if name in ("fan-self", "fan-relation"):
        relation = name == "fan-relation"
        title = f"frame attention, self{' + relation' * relation} (appendix)"
        return Attention(name, title, train, relation=relation)
    if name == "lstm":
        return LSTM(name, "CNN features + LSTM (§1.3.2)", train)
    if name == "c3d":
        return C3D(name, "C3D-small (§1.3.2)", train)
    if name in ("lstm-c3d", "lstm-c3d-learned"):
        learned = name == "lstm-c3d-learned"
        parts = (TrainConfig(**{**train.differing, "model": part}) for part in LSTM_AND_C3D)
        lstm, c3d = (model_of(part, epochs=epochs) for part in parts)
        return Fusion(name, f"LSTM and C3D, {'share learnt' if learned else 'averaged'} (§1.3.2)", lstm, c3d, learned)
    if name == "lbp-svm":
        return SupportVectors(name, "LBP + SVM (§1.3.1)", TEXTURE, weighting)
    if name == "lbp-forest":
        return Forest(name, "LBP + random forest (§1.3.1)", TEXTURE, weighting)
    if name == "gradients-svm":
        return SupportVectors(name, "3-D gradient histograms + SVM (§1.3.1)", GRADIENTS, weighting)
    moved = SupportVectors("displacement-svm", "point displacement + SVM (§1.3.1)", DISPLACEMENT, weighting)
    if name == "displacement-svm":
        return moved
    return Fusion(name, "FC head and displacement (§1.3.2)", head, replace(moved, joined=True), learned=True)


def models_of(
    names: Sequence[str], train: TrainConfig, *, epochs: int = 0, fc: Path | None = None, block: Path | None = None
) -> tuple[ClipModel, ...]:
    """The models to compare, in the order given, each by its own recipe; what is everyone's is `train`'s.

    Args:
        train: the head's setting, or that of the model it names.
        epochs: most epochs of the networks over clips; 0: those of their recipes.
        fc, block: stored layers of the backbone that the head starts from.
    Raises:
        ConfigError: a name is unknown or given twice.
    """
    for name in names:
        if name not in COMPARED:
            close = get_close_matches(name, COMPARED, n=1)
            raise ConfigError(
                f"there is no model '{name}'{f' (did you mean {close[0]!r}?)' if close else ''}; "
                f"there are {', '.join(COMPARED)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"model '{name}' is named {names.count(name)} times; once is enough")
    head = model_of(train.with_recipe_of("head"), fc=fc, block=block)
    assert isinstance(head, FCHead)
    found: list[ClipModel] = []
    for name in names:
        if name in HEAD_RULES:
            rule, title = HEAD_RULES[name]
            found.append(FCHeadRule(name, title, head, rule))
        else:
            model = next(m for m in get_args(ModelName) if m == name)
            found.append(model_of(train.with_recipe_of(model), epochs=epochs, fc=fc, block=block))
    return tuple(found)


def requirements_of(train: TrainConfig, search: SearchConfig | None = None) -> FeatureRequirements:
    """What the fits of a setting, or of all settings of a search from it, read."""
    models = (train.model,) if search is None or not search.models else search.models
    transfers = {train.transfer} if search is None or not search.transfer else set(search.transfer)
    counts = (train.augment.views,) if search is None or not search.views else search.views
    views = views_of(train.augment.model_copy(update={"views": max(counts)}))
    found = joint_requirements([model_of(train.with_model(model)) for model in models])
    if not set(models) & set(FC_HEAD_MODELS):
        return found
    return FeatureRequirements(
        plain=True,
        features=views[1:] if "frozen" in transfers else (),
        maps=views if "last_block" in transfers else (),
        descriptors=found.descriptors,
    )


def joint_requirements(found: Sequence[ClipModel]) -> FeatureRequirements:
    """What some models read, beside views and maps."""
    names = dict.fromkeys(descriptor.name for model in found for descriptor in model.descriptors)
    return FeatureRequirements(plain=any(model.reads_features for model in found), descriptors=tuple(names))
