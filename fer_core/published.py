"""Results and settings published in the thesis, as data, to show beside ours; never a target to tune a test set to.

Recalls are in %. The appendix's recipe for frame attention is here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fer_core.emotions import Emotion

if TYPE_CHECKING:
    from fer_core.config import Rule

VOTE: Rule = "majority_vote"
MEAN: Rule = "mean_scores"


class Database(NamedTuple):
    """A row of Table 3.1."""

    name: str
    elicitation: str
    classes: str
    participants: int
    form: str
    course: str


TABLE_3_1 = (
    Database("CK+", "posed", "6 and contempt", 123, "image sequences, mostly grey", "neutral to apex"),
    Database("MUG", "posed and induced", "6 and neutral", 86, "896×896 JPEG, 19 fps", "neutral to apex to neutral"),
    Database("MMI", "posed", "6", 19, "video, 24 fps", "onset to apex to offset"),
    Database("ISED", "spontaneous", "4 of the 6", 50, "video, 2 to 11 s", "annotated apex"),
)
TRAINED_ON = ("CK+", "ISED", "MUG")  # chapter 4

# Table 3.2: videos per class, in `Emotion` order, by the values of `clips.clip.Split`.
TABLE_3_2: Mapping[str, tuple[int, ...]] = {
    "train": (80, 112, 70, 152, 84, 133),
    "test": (25, 31, 25, 58, 28, 35),
    "validation": (4, 3, 3, 3, 3, 5),
}

# §4.2.1-4.2.2: Table 4.1 and the text below it contradict each other.
TABLE_4_1: Mapping[str, Any] = {"lr": 0.005, "batch_size": 20, "optimizer": "adam"}
SECTION_4_2_2: Mapping[str, Any] = {"lr": 0.001, "batch_size": 30, "optimizer": "adam"}
FC_WIDTHS = (4096, 4096)

# The appendix's frame attention (it runs the published code of Meng et al. 2019); below, clips per batch by its kind.
ATTENTION: Mapping[str, Any] = {
    "optimizer": "sgd", "lr": 4e-3, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "step", "step_epochs": 60,
    "step_gamma": 0.2, "epochs": 180,
}  # fmt: skip
ATTENTION_BATCHES = {"fan-self": 48, "fan-relation": 64}

# Training frames of each class, in the order of `SIX`; 10 645 in all.
TABLE_4_2 = (1246, 1495, 1165, 2875, 1904, 1960)

COMPUTE = "about two days on one GeForce GTX 1080, depending on the architecture"

# eq. 3.5
MEAN_3_5, STD_3_5 = (0.484, 0.455, 0.405), (0.228, 0.223, 0.224)


@dataclass(frozen=True)
class Implementation:
    """One of the thesis's four implementations (§4.3-4.6), tested once on 202 videos.

    Args:
        number: 1 ... 4.
        section: section that describes it.
        figures: numbers of the figures of loss, accuracy and confusion matrices.
        network, loss: description of each.
        epochs: number of epochs of its training.
        average: rule -> mean recall, in %, of the row-normalised confusion matrix.
        recall: emotion -> rule -> recall in %, where the text states it; the matrices are published as pictures only.
        unsaid: emotion -> recall in %, where the text does not state the rule.
    """

    number: int
    section: str
    figures: tuple[str, str, str]
    network: str
    loss: str
    epochs: int
    average: Mapping[Rule, float]
    recall: Mapping[Emotion, Mapping[Rule, float]] = field(default_factory=dict)
    unsaid: Mapping[Emotion, float] = field(default_factory=dict)

    @property
    def preset(self) -> str:
        """Return the name of the packaged settings."""
        return f"thesis-{self.number}"


IMPLEMENTATIONS = (
    Implementation(
        1, "§4.3", ("4.3", "4.4", "4.5"), "VGG16, FC 4096–4096–6", "cross-entropy", 170, {VOTE: 75.02, MEAN: 80.49},
        {Emotion.FEAR: {VOTE: 47.12, MEAN: 52.03}, Emotion.ANGER: {VOTE: 52.15, MEAN: 63.28}},
        {Emotion.DISGUST: 97.75},
    ),
    Implementation(
        2, "§4.4", ("4.6", "4.7", "4.8"), "VGG16, second FC layer narrowed", "cross-entropy", 170,
        {VOTE: 79.12, MEAN: 83.32},
        {
            Emotion.FEAR: {VOTE: 40.15, MEAN: 48.74},
            Emotion.ANGER: {VOTE: 88.80, MEAN: 88.80},
            Emotion.DISGUST: {VOTE: 88.23, MEAN: 91.16},
        },
    ),
    Implementation(
        3, "§4.5", ("4.9", "4.10", "4.11"), "VGG16, FC 4096–4096–6", "weighted cross-entropy", 260,
        {VOTE: 79.05, MEAN: 81.12}, unsaid={Emotion.ANGER: 77.82},
    ),
    Implementation(
        4, "§4.6", ("4.12", "4.13", "4.14"), "VGG16, second FC layer narrowed", "weighted cross-entropy", 180,
        {VOTE: 81.12, MEAN: 85.81}, {Emotion.FEAR: {VOTE: 59.15, MEAN: 59.15}}, {Emotion.DISGUST: 96.95},
    ),
)  # fmt: skip
BY_NUMBER = {one.number: one for one in IMPLEMENTATIONS}

# Where the thesis contradicts itself, and which reading is used here.
CONTRADICTIONS = (
    "Table 4.1 has learning rate 0.005 and batches of 20, the text of §4.2.2 has 0.001 and batches of 30: both are "
    "packaged, and the page says which was run.",
    "§4.4 sees the gap widen after epoch 200 and §4.6 looks at the first 200 epochs, but their trainings ended after "
    "170 and 180: the stopped epochs are the ones compared.",
    "How far the second FC layer is narrowed is not given: 1024 here.",
)
