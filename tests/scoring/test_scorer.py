from __future__ import annotations

from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from fer_core.clips.clip import Clip, clip_digest
from fer_core.config import ScoreConfig
from fer_core.errors import ClipError, ClipStatus
from fer_core.models.fc_head import frame_scores
from fer_core.models.record import FrameBudget
from fer_core.models.verdict import apply_temperature, clip_scores, judge
from fer_core.preprocess.pipeline import preprocess
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer, least_confidence
from tests.preprocess.films import face_frames, write_video
from tests.saved_models import RULES, small_bundle
from tests.scoring.conftest import LIMITS


@pytest.fixture(scope="module")
def good(scorer, videos):
    return scorer.score(videos / "good.mp4")


def test_verdict_is_the_models_own_rule_on_the_clips_own_faces(scorer, videos, good):
    faces = preprocess(Clip(id="x", path=videos / "good.mp4"), scorer.preprocess, LIMITS)
    features = scorer.bundle.backbone.features(faces.pixels)
    scores = frame_scores(scorer.bundle.classifier.head, torch.from_numpy(features)).numpy()
    assert np.array_equal(good.frame_scores, scores)
    assert good.emotion == scorer.classes[judge(scores, "mean_scores").index]
    assert np.allclose(good.probabilities, apply_temperature(clip_scores(scores, "mean_scores"), 1.5))


def test_good_clip_has_a_whole_row(good, videos):
    assert good.status is ClipStatus.OK and good.reason == ""
    assert (good.n_used, good.n_selected, good.n_frames) == (6, 6, 12)
    assert good.probabilities.sum() == pytest.approx(1)
    assert good.confidence == good.probabilities.max()
    assert good.digest == clip_digest(videos / "good.mp4")
    assert good.thumbnail[:2] == b"\xff\xd8" and len(good.thumbnail) < 4000
    assert len(good.ledger) == 6


def test_stored_and_fresh_clips_score_the_same(scorer, bundle, videos, good):
    fresh = ClipScorer(bundle, limits=LIMITS).score(videos / "good.mp4")
    again = scorer.score(videos / "good.mp4")
    for other in (fresh, again):
        assert np.array_equal(other.probabilities, good.probabilities)
        assert np.array_equal(other.frame_scores, good.frame_scores)


def test_scorer_without_a_store_leaves_nothing_on_disk(bundle, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ClipScorer(bundle, limits=LIMITS).score(videos / "good.mp4").emotion
    assert not list(tmp_path.iterdir())


def test_frame_folder_scores_like_any_clip(scorer, videos):
    row = scorer.score(videos / "frames")
    assert row.status is ClipStatus.OK and row.n_frames == 6 and row.emotion


def test_fault_56_face_in_under_half_of_the_frames_abstains_with_the_count(scorer, videos):
    row = scorer.score(videos / "half.mp4")
    assert row.status is ClipStatus.LOW_QUALITY and row.emotion
    assert row.abstained and f"{row.n_used} of its {row.n_selected} selected frames" in row.reason


def test_fault_10_one_frame_is_scored_and_flagged(scorer, videos):
    row = scorer.score(videos / "one.mp4")
    assert row.status is ClipStatus.LOW_QUALITY and row.abstained
    assert row.emotion and row.reason == "it has one frame only"


@pytest.mark.parametrize(
    ("name", "status"),
    [("plain.mp4", "no_face"), ("empty.mp4", "damaged"), ("page.mp4", "unsupported"), ("gone.mp4", "missing")],
)
def test_what_cannot_be_scored_has_a_status_and_a_reason(scorer, videos, name, status):
    row = scorer.score(videos / name)
    assert row.status == status and row.reason
    assert row.emotion is None and row.probabilities is None and np.isnan(row.confidence)


def test_rows_come_in_order_one_an_item(scorer, videos):
    items = collect([videos, "http://x/y.mp4", videos / "gone.mp4"])
    seen = []
    rows = list(scorer.score_many(items, lambda done, total: seen.append((done, total))))
    assert [row.clip for row in rows] == [item.clip.id for item in items]
    assert seen[-1] == (len(items), len(items))
    assert [row.status for row in rows[-2:]] == ["rejected", "missing"]


@pytest.mark.parametrize("rule", RULES)
def test_rule_can_be_chosen_and_has_its_own_temperature(bundle, store_root, videos, rule):
    own = replace(bundle, record=bundle.record.model_copy(update={"facts": bundle.facts.model_copy(
        update={"temperatures": {r: 1.0 + i for i, r in enumerate(RULES)}})}))  # fmt: skip
    scorer = ClipScorer(own, ScoreConfig(rule=rule), limits=LIMITS, store_root=store_root)
    row = scorer.score(videos / "good.mp4")
    expected = apply_temperature(clip_scores(row.frame_scores, rule), 1.0 + RULES.index(rule))
    assert np.allclose(row.probabilities, expected)


def test_uncertain_clips_abstain_but_say_what_they_would_be(bundle, store_root, videos):
    row = ClipScorer(bundle, ScoreConfig(abstain_below=0.99), limits=LIMITS, store_root=store_root).score(
        videos / "good.mp4"
    )
    assert row.status is ClipStatus.OK and row.abstained and row.emotion


def test_a_probability_that_is_not_above_chance_abstains(bundle, store_root, videos):
    flat = bundle.record.facts.model_copy(update={"temperatures": dict.fromkeys(RULES, 100.0)})
    level = replace(bundle, record=bundle.record.model_copy(update={"facts": flat}))
    scorer = ClipScorer(level, limits=LIMITS, store_root=store_root)
    row = scorer.score(videos / "good.mp4")
    assert scorer.abstain_below == pytest.approx(0.2083, abs=1e-4)
    assert least_confidence(2) == pytest.approx(0.525)
    assert row.status is ClipStatus.OK and row.abstained and 1 / 6 < row.confidence < 0.2


def test_whatever_changes_a_row_changes_its_key(bundle, scorer, tmp_path):
    keys = {
        scorer.key("aa"),
        scorer.key("bb"),
        scorer.key("aa", apex=3),
        ClipScorer(bundle, ScoreConfig(rule="majority_vote")).key("aa"),
        ClipScorer(bundle, ScoreConfig(abstain_below=0.5)).key("aa"),
        ClipScorer(bundle, ScoreConfig(face_mode="tracked")).key("aa"),
        ClipScorer(small_bundle(tmp_path, seed=1)).key("aa"),
    }
    assert len(keys) == 7
    assert ClipScorer(bundle, ScoreConfig(strict=True)).key("aa") == scorer.key("aa")


def test_fault_89_scores_that_are_no_numbers_are_a_crash_not_a_class(tmp_path, videos):
    broken = small_bundle(tmp_path)
    with torch.no_grad():
        broken.classifier.head.linears[-1].bias[0] = float("nan")
    scorer = ClipScorer(broken, limits=LIMITS)
    row = scorer.score(videos / "good.mp4")
    assert row.status is ClipStatus.CRASHED and row.emotion is None
    with pytest.raises(ClipError, match="not numbers"):
        scorer.judge(preprocess(Clip(id="x", path=videos / "good.mp4"), scorer.preprocess, LIMITS))


def test_all_frames_are_read_where_that_is_asked_for(bundle, scorer, videos, good):
    all_frames = ClipScorer(bundle, ScoreConfig(max_frames=0), limits=LIMITS)
    assert bundle.facts.preprocess.max_frames == 6
    long = all_frames.score(videos / "half.mp4")
    assert (long.n_selected, scorer.score(videos / "half.mp4").n_selected) == (8, 6)
    assert np.array_equal(all_frames.score(videos / "good.mp4").frame_scores, good.frame_scores)  # has no more than 6
    assert all_frames.key("ab") != scorer.key("ab")


def test_a_version_reads_its_frame_budget_unless_told_otherwise(videos, tmp_path):
    sealed = small_bundle(tmp_path / "model", budget=FrameBudget(frames=4, agreement=0.99, clips=100))
    read = {most: ClipScorer(sealed, ScoreConfig(max_frames=most), limits=LIMITS) for most in (-1, 0, 5)}
    assert {most: own.score(videos / "half.mp4").n_selected for most, own in read.items()} == {-1: 4, 0: 8, 5: 5}


def test_clip_after_clip_is_decoded_by_the_same_warm_process(bundle, videos):
    def children() -> set[int]:
        started = psutil.Process().children()
        return {p.pid for p in started if "fer_core.preprocess.sandbox" in p.cmdline()}

    others, fresh = children(), ClipScorer(bundle, limits=LIMITS)
    assert fresh.score(videos / "good.mp4").emotion
    (first,) = children() - others
    assert fresh.score(videos / "half.mp4").emotion and children() - others == {first}
    assert fresh.score(videos / "page.mp4").status is ClipStatus.UNSUPPORTED and children() == others


def test_a_long_clip_says_that_one_verdict_over_its_second_half_is_doubtful(scorer, good, tmp_path):
    assert good.reason == ""
    write_video(tmp_path / "long.mp4", face_frames(32), rate=1)
    row = scorer.score(tmp_path / "long.mp4")
    assert row.status.scored and "31 s long; one verdict over its second half is doubtful" in row.reason
