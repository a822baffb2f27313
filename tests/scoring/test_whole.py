"""A model that judges clips whole, in the scorer: its course, its row, its page, what it refuses."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fer_core.clips.clip import Clip
from fer_core.config import PreprocessConfig, ScoreConfig
from fer_core.errors import ClipStatus, ConfigError, WeightsError
from fer_core.features.descriptors.catalogue import describe
from fer_core.features.descriptors.descriptor import course_config
from fer_core.models.attention import AttentionClassifier, AttentionRecord
from fer_core.models.bundle import read_bundle, write_bundle
from fer_core.models.fusion import FusionClassifier
from fer_core.models.landmarks import LandmarksClassifier, LandmarksRecord
from fer_core.models.record import ModelFacts
from fer_core.models.svm import SupportVectorsClassifier, SupportVectorsRecord
from fer_core.preprocess.pipeline import preprocess
from fer_core.reports.scores import report_html
from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from tests.saved_models import lite0, small_bundle
from tests.scoring.conftest import LIMITS

FACTS = ModelFacts(preprocess=PreprocessConfig(max_frames=6), synthetic=True, temperatures={"mean_scores": 1.0})


def vectors(descriptor: str, d: int, onset: float = 0.0) -> SupportVectorsClassifier:
    rng = np.random.default_rng(0)
    record = SupportVectorsRecord(descriptor=descriptor, n_features=d, temperature=1.0)
    learnt = np.zeros(d), np.full(d, 0.01), rng.normal(size=(15, d)), rng.normal(size=15)
    weights = np.full(d if descriptor == "displacement" else 0, onset)
    return SupportVectorsClassifier(record, *learnt, 6, weights)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("motion"), vectors("displacement", 288), None, FACTS)


def test_a_clip_is_judged_by_its_whole_course(videos, tmp_path):
    bundle = write_bundle(tmp_path, vectors("gradients", 1296), None, FACTS)
    scorer = ClipScorer(bundle, limits=LIMITS)
    row = scorer.score(videos / "good.mp4")
    course = preprocess(Clip(id="x", path=videos / "good.mp4"), course_config(scorer.preprocess), LIMITS)
    assert len(course.pixels) == 12 > row.n_selected == 6
    rows = describe(["gradients"], {"course": course.pixels})["gradients"].reshape(1, -1)
    pairs = (rows - bundle.classifier.mean) / bundle.classifier.scale @ bundle.classifier.coef.T
    decided = bundle.classifier.decision(pairs + bundle.classifier.intercept)
    assert row.classes.index(row.emotion) == decided.argmax()
    assert row.status is ClipStatus.OK and row.frame_scores is None and row.thumbnail
    assert row.probabilities.sum() == pytest.approx(1)


def test_a_model_of_landmarks_names_the_command_on_a_machine_without_the_network(videos, tmp_path, monkeypatch):
    record = LandmarksRecord(descriptor="landmarks", n_features=1404, temperature=1.0)
    rng = np.random.default_rng(0)
    learnt = np.zeros(1404), np.ones(1404), rng.normal(size=(15, 1404)), rng.normal(size=15)
    folder, plain = tmp_path / "model", small_bundle(tmp_path / "head")
    write_bundle(folder, LandmarksClassifier(record, *learnt, 6, np.zeros(1404)), None, FACTS)
    assert read_bundle(folder).facts.preprocess.face.landmarks == "yes"
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match="fetch them with 'ferflow weights fetch face-landmarks'"):
        ClipScorer(read_bundle(folder), limits=LIMITS)
    row = ClipScorer(plain, limits=LIMITS).score(videos / "good.mp4")
    assert row.status is ClipStatus.OK, "a model that reads no landmarks needs no network"


def test_the_apex_of_a_clip_that_names_none_is_estimated_for_a_model_of_motion_only(motion, tmp_path):
    assert ClipScorer(motion).preprocess.apex == "estimate"
    assert ClipScorer(small_bundle(tmp_path)).preprocess.apex == "given"


@pytest.mark.parametrize(("descriptor", "d"), [("displacement", 288), ("gradients", 1296)])
def test_a_face_that_keeps_still_is_no_evidence_for_a_model_of_motion(descriptor, d, videos, tmp_path):
    still = tmp_path / "still"
    still.mkdir()
    _, face = cv2.VideoCapture(str(videos / "good.mp4")).read()
    for i in range(8):
        cv2.imwrite(str(still / f"{i}.png"), face)
    bundle = write_bundle(tmp_path / "model", vectors(descriptor, d), None, FACTS)
    row = ClipScorer(bundle, limits=LIMITS).score(still)
    assert row.status is ClipStatus.OK and row.abstained
    assert row.reason == "abstained: nothing moved; this model needs a clip that starts with a neutral face"
    if descriptor == "displacement":
        assert np.allclose(row.probabilities, 1 / 6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_clip_that_begins_with_an_expression_is_no_verdict_of_a_model_that_reads_displacement(
    fused, videos, tmp_path
):
    clip = tmp_path / "bending"
    clip.mkdir()
    _, face = cv2.VideoCapture(str(videos / "good.mp4")).read()
    x, y = np.meshgrid(np.arange(face.shape[1], dtype=np.float32), np.arange(face.shape[0], dtype=np.float32))
    for i in range(8):
        cv2.imwrite(str(clip / f"{i}.png"), cv2.remap(face, x + i * np.sin(y / 6) / 4, y, cv2.INTER_LINEAR))
    rows = []
    for onset in (1.0, -1.0):  # the same clip is a growing expression to one model, a fading one to the other
        head = small_bundle(tmp_path / f"head{onset}")
        part = vectors("displacement", 288, onset)
        classifier = FusionClassifier(head.classifier, part, 0.5, True) if fused else part
        bundle = write_bundle(tmp_path / f"model{onset}", classifier, head.backbone if fused else None, FACTS)
        rows.append(ClipScorer(bundle, limits=LIMITS).score(clip))
    reasons = [row.reason for row in rows]
    assert reasons.count("abstained: the clip seems to begin with an expression; this model needs a neutral start") == 1
    assert reasons.count("") == 1 and [row.abstained for row in rows if row.reason] == [True]


def test_a_batch_of_it_has_rows_for_all_and_nothing_is_said_of_single_frames(motion, videos, tmp_path):
    scorer = ClipScorer(motion, ScoreConfig(explain=2), limits=LIMITS, store_root=tmp_path / "store")
    items = collect([videos / "good.mp4", videos / "plain.mp4", videos / "empty.mp4", videos / "frames"])
    first = score_batch(scorer, items, tmp_path / "out", tmp_path / "store")
    assert [row.status.value for row in first.rows] == ["ok", "no_face", "damaged", "ok"]
    again = score_batch(scorer, items, tmp_path / "out", tmp_path / "store")
    assert again.remembered >= 3 and again.rows[0].explanation == first.rows[0].explanation
    frames = pq.read_table(tmp_path / "out" / "frames.parquet").to_pandas()
    assert frames["anger"].isna().all() and len(frames) > 6
    verdicts = pq.read_table(tmp_path / "out" / "verdicts.parquet").to_pandas()
    assert set(verdicts["rule"]) == {"whole_clip"}
    page = report_html(first.rows, scorer)
    assert "each clip judged <b>whole</b>" in page and "Lines: how points moved" in page
    assert "Decisive frames" not in page and "Grad-CAM" not in page


def test_what_moved_is_drawn_on_the_last_face(motion, videos):
    row = ClipScorer(motion, ScoreConfig(explain=1), limits=LIMITS).score(videos / "good.mp4")
    picture = cv2.imdecode(np.frombuffer(row.explanation, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape == (224, 224, 3) and row.decisive == ()
    orange = (picture[..., 2] - picture[..., 0]) > 60
    assert 20 < orange.sum() < 0.3 * orange.size


def test_appearance_and_motion_are_explained_side_by_side(tmp_path, videos):
    head = small_bundle(tmp_path / "head")
    fused = FusionClassifier(head.classifier, vectors("displacement", 288), 0.5, True)
    bundle = write_bundle(tmp_path / "fused", fused, head.backbone, FACTS)
    row = ClipScorer(bundle, ScoreConfig(explain=2), limits=LIMITS).score(videos / "good.mp4")
    picture = cv2.imdecode(np.frombuffer(row.explanation, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (224, 3 * 224, 3) and len(row.decisive) == 2 and row.frame_scores is None


def test_rules_of_frames_and_explanations_there_are_none_of_are_refused(motion, tmp_path):
    with pytest.raises(ConfigError, match=r"'majority_vote', which joins frames; this model judges a clip whole"):
        ClipScorer(motion, ScoreConfig(rule="majority_vote"))
    texture = write_bundle(tmp_path, vectors("texture", 49 * 59), None, FACTS)
    with pytest.raises(ConfigError, match="neither FC layers over convolutions"):
        ClipScorer(texture, ScoreConfig(explain=1))


def test_attention_shows_its_frames_by_their_weights(tmp_path, videos):
    record = AttentionRecord(n_features=1280, relation=False)
    torch.manual_seed(0)
    net = AttentionClassifier(record, AttentionClassifier.network(record, 6).eval())
    bundle = write_bundle(tmp_path / "model", net, lite0(), FACTS)
    scorer = ClipScorer(bundle, limits=LIMITS, store_root=tmp_path / "store")
    batch = score_batch(scorer, collect([videos / "good.mp4"]), tmp_path / "out", tmp_path / "store")
    [row] = batch.rows
    assert row.frame_scores.shape == (6, 6) and row.frame_shares.sum() == pytest.approx(1)
    assert np.ptp(row.frame_shares) > 0
    logits = np.log(row.frame_scores)
    joined = row.frame_shares @ (logits - logits.mean(axis=1, keepdims=True))
    powers = np.exp(joined - joined.max())
    assert np.allclose(row.probabilities, powers / powers.sum(), atol=0.02), (
        "nearly: a mean of logits, not of their logs"
    )
    frames = pq.read_table(tmp_path / "out" / "frames.parquet").to_pandas()
    assert np.allclose(frames["share"], row.frame_shares, atol=1e-6) and frames["anger"].notna().all()
    page = report_html(batch.rows, scorer)
    assert 'class="timeline"' in page and "runner-up, by its weight" in page
    again = score_batch(scorer, collect([videos / "good.mp4"]), tmp_path / "out", tmp_path / "store")
    assert again.remembered == 1 and np.array_equal(again.rows[0].frame_shares, row.frame_shares)
