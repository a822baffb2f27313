"""All models by name, in the order of the thesis: its own head and rules, its appendix, the systems it reviews.

To add a model, add a file to this folder, its name to `model_names.py`, and a line to `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from fer_core.config import RECIPES, Rule, SearchConfig, TrainConfig
from fer_core.dataset.table import FeatureRequirements
from fer_core.errors import ConfigError
from fer_core.features.augment import views_of
from fer_core.features.descriptors.catalogue import DISPLACEMENT, GRADIENTS, LANDMARKS, TEXTURE, TEXTURE_CHANGE
from fer_core.model_names import AVERAGE, FC_HEAD_MODELS, compared_names
from fer_core.models.adopted import AdoptedClassifier  # noqa: F401  read from files, never fitted
from fer_core.models.attention import Attention
from fer_core.models.average import Average
from fer_core.models.base import ClipModel
from fer_core.models.c3d import C3D
from fer_core.models.fc_head import FCHead, FCHeadRule
from fer_core.models.forest import Forest
from fer_core.models.fusion import Fusion
from fer_core.models.landmarks import LandmarksVectors
from fer_core.models.lstm import LSTM
from fer_core.models.svm import SupportVectors

RULES_OF_HEAD: dict[str, tuple[Rule, str]] = {
    "head-mean": ("mean_scores", "FC head, mean scores (§4.1)"),
    "head-vote": ("majority_vote", "FC head, majority vote (§4.1)"),
    "head-log-mean": ("log_mean_scores", "FC head, mean log scores"),
}


@dataclass(frozen=True)
class Start:
    """Files of the backbone's layers from which a head starts: the FC layers and the last block."""

    fc: Path | None = None
    block: Path | None = None


def _head(train: TrainConfig, start: Start) -> FCHead:
    return FCHead("head", "FC head (§4.2)", train.with_model("head"), start.fc, start.block)


def _lstm(train: TrainConfig, start: Start) -> ClipModel:
    return LSTM("lstm", "CNN features + LSTM (§1.3.2)", train)


def _c3d(train: TrainConfig, start: Start) -> ClipModel:
    return C3D("c3d", "C3D-small (§1.3.2)", train)


def _lstm_c3d(name: str, title: str, learned: bool) -> Factory:
    def factory(train: TrainConfig, start: Start) -> ClipModel:
        lstm, c3d = (TrainConfig(**{**train.differing, "model": part}) for part in ("lstm", "c3d"))
        return Fusion(name, title, _lstm(lstm, start), _c3d(c3d, start), learned)

    return factory


def _displacement(train: TrainConfig, start: Start) -> SupportVectors:
    return SupportVectors("displacement-svm", "point displacement + SVM (§1.3.1)", DISPLACEMENT, train.class_weights)


def _appearance_displacement(train: TrainConfig, start: Start) -> ClipModel:
    parts = _head(train, start), _displacement(train, start)
    return Fusion("appearance-displacement", "FC head and displacement (§1.3.2)", *parts, learned=True)


def _gradients(train: TrainConfig, start: Start) -> SupportVectors:
    return SupportVectors("gradients-svm", "3-D gradient histograms + SVM (§1.3.1)", GRADIENTS, train.class_weights)


def _landmarks(train: TrainConfig, start: Start) -> LandmarksVectors:
    return LandmarksVectors("landmarks-svm", "468 landmarks + SVM", LANDMARKS, train.class_weights)


def _appearance_landmarks(train: TrainConfig, start: Start) -> ClipModel:
    parts = _head(train, start), _landmarks(train, start)
    return Fusion("appearance-landmarks", "FC head and landmarks", *parts, learned=True)


def _landmarks_texture(train: TrainConfig, start: Start) -> ClipModel:
    title = "landmarks and change of texture + SVM"
    return LandmarksVectors("landmarks-texture", title, LANDMARKS, train.class_weights, (TEXTURE_CHANGE,))


def _landmarks_motion(train: TrainConfig, start: Start) -> ClipModel:
    title = "landmarks, displacement and gradients + SVM"
    return LandmarksVectors("landmarks-motion", title, LANDMARKS, train.class_weights, (DISPLACEMENT, GRADIENTS))


Factory = Callable[[TrainConfig, Start], ClipModel]
MODELS: dict[str, Factory] = {
    "head": _head,
    "fan-self": lambda train, _: Attention("fan-self", "frame attention, self (appendix)", train, relation=False),
    "fan-relation": lambda train, _: Attention(
        "fan-relation", "frame attention, self + relation (appendix)", train, relation=True
    ),
    "lstm": _lstm,
    "c3d": _c3d,
    "lstm-c3d": _lstm_c3d("lstm-c3d", "LSTM and C3D, averaged (§1.3.2)", learned=False),
    "lstm-c3d-learned": _lstm_c3d("lstm-c3d-learned", "LSTM and C3D, share learnt (§1.3.2)", learned=True),
    "lbp-svm": lambda train, _: SupportVectors("lbp-svm", "LBP + SVM (§1.3.1)", TEXTURE, train.class_weights),
    "lbp-forest": lambda train, _: Forest("lbp-forest", "LBP + random forest (§1.3.1)", TEXTURE, train.class_weights),
    "lbp-change-svm": lambda train, _: SupportVectors(
        "lbp-change-svm", "LBP, apex minus neutral + SVM (§1.3.1)", TEXTURE_CHANGE, train.class_weights
    ),
    "displacement-svm": _displacement,
    "appearance-displacement": _appearance_displacement,
    "gradients-svm": _gradients,
    "landmarks-svm": _landmarks,
    "landmarks-texture": _landmarks_texture,
    "landmarks-motion": _landmarks_motion,
    "appearance-landmarks": _appearance_landmarks,
}


def model_of(train: TrainConfig, *, epochs: int = 0, fc: Path | None = None, block: Path | None = None) -> ClipModel:
    """Return the model that the settings name (`train.model`), with these settings.

    Args:
        epochs: maximum number of epochs of clip networks, also inside a fusion; 0: as in the settings.
        fc, block: files of the backbone's layers from which a head starts.
    """
    if train.model == AVERAGE:
        members = [model_of(TrainConfig.model_validate(m), fc=fc, block=block) for m in train.members]
        named = (replace(member, name=f"{i}-{member.name}") for i, member in enumerate(members))
        return Average(AVERAGE, "average of the best trials", tuple(named))
    if epochs and train.model in RECIPES:
        train = train.model_copy(update={"epochs": epochs})
    return MODELS[train.model](train, Start(fc, block))


def models_of(
    names: Sequence[str], train: TrainConfig, *, epochs: int = 0, fc: Path | None = None, block: Path | None = None
) -> tuple[ClipModel, ...]:
    """Return the models to compare, in the given order. Each has its own recipe; shared fields come from `train`.

    Args:
        train: the settings; its model's own fields apply to that model only.
        epochs: maximum number of epochs of the clip networks; 0: as in their recipes.
        fc, block: files of the backbone's layers from which the head starts.
    Raises:
        ConfigError: a name is unknown or given twice.
    """
    known = compared_names()
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise ConfigError(
                f"there is no model '{name}'{f' (did you mean {close[0]!r}?)' if close else ''}; "
                f"there are {', '.join(known)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"model '{name}' is named {names.count(name)} times; once is enough")
    head = model_of(train.with_recipe_of("head"), fc=fc, block=block)
    assert isinstance(head, FCHead)
    found: list[ClipModel] = []
    for name in names:
        if name in RULES_OF_HEAD:
            rule, title = RULES_OF_HEAD[name]
            found.append(FCHeadRule(name, title, head, rule))
        else:
            found.append(model_of(train.with_recipe_of(name), epochs=epochs, fc=fc, block=block))
    return tuple(found)


def requirements_of(train: TrainConfig, search: SearchConfig | None = None) -> FeatureRequirements:
    """Return the features that a fit with these settings reads; with `search`, those of every trial that it may run."""
    if train.model == AVERAGE:
        members = [requirements_of(TrainConfig.model_validate(member)) for member in train.members]
        return FeatureRequirements(
            plain=any(m.plain for m in members),
            features=max((m.features for m in members), key=len),
            descriptors=tuple(dict.fromkeys(name for m in members for name in m.descriptors)),
            neutral=any(m.neutral for m in members),
        )
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
        neutral=found.neutral or (search is not None and "neutral" in search.relative),
    )


def joint_requirements(found: Sequence[ClipModel]) -> FeatureRequirements:
    """Return the features and descriptors that the models read together, without augmented views and maps."""
    names = dict.fromkeys(descriptor.name for model in found for descriptor in model.descriptors)
    return FeatureRequirements(
        plain=any(model.reads_features for model in found),
        descriptors=tuple(names),
        neutral=any(model.reads_neutral for model in found),
    )
