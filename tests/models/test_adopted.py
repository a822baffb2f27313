"""Networks' own classifiers as a model: what counts of a clip, and against which face it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import PreprocessConfig
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import ClipStatus, ConfigError, WeightsError
from fer_core.experiments.adoption import adopted_backbone
from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.backbone import JoinedBackbone
from fer_core.features.inputs import ClipInputs
from fer_core.features.torch_backbone import backbone_from_state
from fer_core.models.adopted import NO_NEUTRAL, AdoptedClassifier, AdoptedRecord, whole_course
from fer_core.models.bundle import write_bundle
from fer_core.models.record import ModelFacts
from fer_core.scoring.scorer import ClipScorer
from tests.preprocess.films import face_frames, write_video
from tests.scoring.conftest import LIMITS

HAPPY, SAD, NEUTRAL = (SEVEN.index(e) for e in (Emotion.HAPPINESS, Emotion.SADNESS, Emotion.NEUTRAL))


def classifier(networks=1, relative="neutral", n_classes=6):
    record = AdoptedRecord(n_features=7 * networks, networks=networks, relative=relative)
    return AdoptedClassifier.build(record, {}, n_classes)


def clip(*frames: dict[int, float], networks=1) -> ClipInputs:
    """One clip of frames, each by its unusual probabilities; the rest share what is left."""
    rows = []
    for frame in frames:
        rest = (1 - sum(frame.values())) / (7 - len(frame))
        rows.append(np.log([frame.get(column, rest) for column in range(7)]))
    return clip_of(np.tile(np.stack(rows), networks))


def clip_of(rows: np.ndarray) -> ClipInputs:
    return ClipInputs(features=torch.from_numpy(rows).half(), offsets=np.array([0, len(rows)]))


def verdict(model: AdoptedClassifier, inputs: ClipInputs) -> int:
    scores = model.scores(inputs, np.array([0]))
    assert scores.shape == (1, model.n_classes) and scores.sum() == pytest.approx(1)
    return int(scores.argmax())


SAD_AT_REST = {NEUTRAL: 0.5, SAD: 0.4}
SMILE = {SAD: 0.45, HAPPY: 0.35}


def test_a_face_that_looks_sad_at_rest_is_read_against_itself():
    inputs = clip(SAD_AT_REST, SAD_AT_REST, SMILE, SMILE)
    assert verdict(classifier(relative="none"), inputs) == SAD
    assert verdict(classifier(), inputs) == HAPPY
    assert classifier().flags(inputs, 0) == ()


def test_scores_are_the_mean_log_probabilities_less_half_those_of_the_first_neutral_face():
    """Worked out by hand from the definition."""
    rng = np.random.default_rng(0)
    rows = np.log(rng.dirichlet(np.ones(7), 6))
    rows[1, NEUTRAL] = 0.0  # the first frame is not neutral, the second is
    rows = rows.astype(np.float16).astype(float)
    assert rows[0].argmax() != NEUTRAL
    said = (rows[3:].mean(axis=0) - rows[1] / 2)[:6]
    wanted = np.exp(said) / np.exp(said).sum()
    assert classifier().scores(clip_of(rows), np.array([0]))[0] == pytest.approx(wanted)


def test_a_clip_without_a_neutral_face_is_read_plainly_and_its_row_says_so():
    inputs = clip(SMILE, SMILE, SMILE)
    assert np.allclose(*(classifier(relative=r).scores(inputs, np.array([0])) for r in ("none", "neutral")))
    assert classifier().flags(inputs, 0) == (NO_NEUTRAL,)
    assert classifier(relative="none").flags(inputs, 0) == ()


def test_the_verdict_is_of_the_second_half_and_each_frame_shows_its_share():
    inputs = clip({SAD: 0.9}, {SAD: 0.9}, {HAPPY: 0.6}, {HAPPY: 0.7})
    model = classifier(relative="none")
    view = model.frames_in(inputs, 0)
    assert view.shares.tolist() == [0, 0, 0.5, 0.5]
    assert view.scores.argmax(axis=1).tolist() == [SAD, SAD, HAPPY, HAPPY]
    assert verdict(model, inputs) == HAPPY


def test_seven_classes_call_a_face_at_rest_neutral():
    inputs = clip(SAD_AT_REST, SAD_AT_REST, SAD_AT_REST)
    assert verdict(classifier(n_classes=7), inputs) == NEUTRAL
    assert verdict(classifier(n_classes=6), inputs) == SAD


def test_several_networks_are_averaged_in_log_probability():
    one, two = clip({HAPPY: 0.9}), clip({SAD: 0.6, HAPPY: 0.3})
    both = clip_of(np.hstack([one.features.numpy(), two.features.numpy()]))
    assert verdict(classifier(relative="none"), two) == SAD
    assert verdict(classifier(2, relative="none"), both) == HAPPY


@pytest.mark.parametrize(
    ("record", "tensors"),
    [
        (AdoptedRecord(n_features=8, networks=1), {}),
        (AdoptedRecord(n_features=14, networks=3), {}),
        (AdoptedRecord(n_features=7, networks=1), {"w": torch.zeros(1)}),
    ],
    ids=["columns", "networks", "tensors"],
)
def test_a_record_that_no_network_fits_is_refused(record, tensors):
    with pytest.raises(WeightsError, match="reads 7 columns of each network"):
        AdoptedClassifier.build(record, tensors, 6)


@pytest.mark.parametrize(
    ("networks", "says"), [("vgg16", "'vgg16' cannot be adopted"), ("fer2013+fer2013", "names a network twice")]
)
def test_only_networks_with_classes_of_their_own_can_be_adopted(networks, says):
    with pytest.raises(ConfigError, match=says):
        adopted_backbone(networks)


def test_clips_are_shown_from_their_beginning_as_plain_crops():
    shown = whole_course(PreprocessConfig())
    assert (shown.selection, shown.equalize, shown.max_frames) == ("all", "none", 8)
    assert whole_course(PreprocessConfig(max_frames=20)).max_frames == 20


@pytest.fixture(scope="module")
def adopted(tmp_path_factory):
    """Both networks with random weights, adopted: no published ones are needed to write, read and score."""
    torch.manual_seed(0)
    parts = []
    for name in ("fer2013", "face-api"):
        known = ARCHITECTURES[name]
        assert known.normalization is not None
        state = known.build().state_dict()
        parts.append(backbone_from_state(name, state, known.normalization, "random", output="classes"))
    joined = JoinedBackbone(parts)
    facts = ModelFacts(
        model="adopted", classes=SIX, preprocess=whole_course(PreprocessConfig(max_frames=4)), synthetic=False
    )
    return joined, write_bundle(tmp_path_factory.mktemp("adopted"), classifier(2), joined, facts)


def test_an_adopted_model_travels_with_its_networks_and_their_classifiers(adopted):
    joined, bundle = adopted
    assert [part.name for part in bundle.record.backbones] == ["fer2013", "face-api"]
    assert [part.output for part in bundle.record.backbones] == ["classes", "classes"]
    assert bundle.backbone.identity == joined.identity and bundle.backbone.classes == SEVEN
    faces = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    assert np.array_equal(bundle.backbone.features(faces), joined.features(faces))


def test_an_adopted_model_scores_a_video_whole_and_shows_what_counted(adopted, tmp_path):
    write_video(tmp_path / "clip.mp4", face_frames(6))
    row = ClipScorer(adopted[1], limits=LIMITS).score(tmp_path / "clip.mp4")
    assert (row.status, row.n_used, row.n_selected) == (ClipStatus.OK, 4, 4)
    assert row.classes == SIX and row.probabilities.sum() == pytest.approx(1)
    assert row.frame_shares.tolist() == [0, 0, 0.5, 0.5] and row.frame_scores.shape == (4, 6)
    assert row.flags in ((), (NO_NEUTRAL,))
