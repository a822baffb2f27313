"""A version on clips it has not seen: who is left out, what counts, and what becomes of changed clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest
from fer_core.emotions import SIX
from fer_core.errors import ClipStatus, DataError
from fer_core.experiments.stability import CHANGES, stress_version
from fer_core.experiments.version_evaluation import evaluate_version
from fer_core.models.bundle import subject_digest
from fer_core.reports.version_evaluation import evaluation_markdown, evaluation_page
from fer_core.scoring.inputs import Item, unlabelled
from fer_core.scoring.scorer import ClipScorer
from tests.preprocess.films import face_frames, plain_frames, write_video
from tests.saved_models import small_bundle
from tests.scoring.conftest import LIMITS


@pytest.fixture(scope="module")
def scorer(tmp_path_factory) -> ClipScorer:
    """A version that was trained on s1."""
    bundle = small_bundle(tmp_path_factory.mktemp("bundle"))
    facts = bundle.facts.model_copy(update={"subjects": (subject_digest("db:s1"),)})
    bundle = replace(bundle, record=bundle.record.model_copy(update={"facts": facts}))
    store = tmp_path_factory.mktemp("store")
    return ClipScorer(bundle, limits=LIMITS, store_root=store, name="face-emotion", version="3")


@pytest.fixture(scope="module")
def clips(scorer, tmp_path_factory) -> list[Clip]:
    """Three clips of two people it has not seen, one of s1, one without a face, two that cannot count."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [write_video(folder / f"{i}.mp4", face_frames(6 + i)) for i in range(3)]
    plain = write_video(folder / "plain.mp4", plain_frames(6))
    verdict = scorer.score(paths[0]).emotion
    other = next(e for e in SIX if e != verdict)

    def clip(name: str, path, subject: str, emotion: str | None, sex: str = "") -> Clip:
        return Clip(id=name, path=path, subject=subject, emotion=emotion, dataset="db", groups={"sex": sex})

    return [
        clip("right", paths[0], "db:s2", verdict, "f"),
        clip("wrong", paths[1], "db:s3", other, "m"),
        clip("nobody", paths[2], "", verdict, "f"),
        clip("seen", paths[0], "db:s1", verdict),
        clip("faceless", plain, "db:s4", verdict),
        clip("unlabelled", paths[0], "db:s5", None),
        clip("foreign", paths[0], "db:s6", "boredom"),
    ]


def manifest(clips: list[Clip]) -> Manifest:
    return Manifest(tuple(clips), (*SIX, "boredom"))


def test_people_it_was_trained_on_and_clips_that_cannot_count_are_left_out_and_counted(scorer, clips) -> None:
    found = evaluate_version(scorer, manifest(clips))
    assert [clip.id for clip in found.clips] == ["right", "wrong", "nobody"] and found.unnamed == 1
    assert found.left_out == {
        "of people it was trained on": 1,
        "without a verdict: no_face": 1,
        "without a label": 1,
        "of a class that the version does not know": 1,
    }
    rows = [scorer.score(clip) for clip in found.clips]
    right = [row.emotion == clip.emotion for row, clip in zip(rows, found.clips, strict=True)]
    assert found.evaluation.accuracy.value == pytest.approx(np.mean(right)) and found.evaluation.n_subjects == 3
    assert set(found.groups) == {"sex"} and found.groups["sex"]["f"].n_clips == 2
    assert found.stress == () and "stress/least_stays" not in found.metrics()
    page, markdown = (
        make(found, "face-emotion version 3", "mine.csv") for make in (evaluation_page, evaluation_markdown)
    )
    assert "1</b> clip left out: of people it was trained on" in page and "survive" not in page
    assert "3 clips of 3 people" in page and "3 clips of 3 people" in markdown


def test_every_change_is_counted_against_the_unchanged_verdict(scorer, clips, monkeypatch) -> None:
    real = ClipScorer.score_many

    def scored(self, items, progress=None, change=None):
        """The real rows, but that the mirror changes the first verdict and darkness hides the second face."""
        for place, row in enumerate(real(self, items, progress, None)):
            if change == "mirror" and place == 0:
                other = next(c for c in row.classes if c != row.emotion)
                yield replace(row, emotion=other, abstained=True)
            elif change == "darker" and place == 1:
                yield replace(row, emotion=None, probabilities=None, status=ClipStatus.NO_FACE, abstained=True)
            else:
                yield replace(row, abstained=False)

    monkeypatch.setattr(ClipScorer, "score_many", scored)
    found = evaluate_version(scorer, manifest(clips[:3]), stress=True)
    by_change = {s.change: s for s in found.stress}
    assert tuple(by_change) == CHANGES
    mirror, darker, half = by_change["mirror"], by_change["darker"], by_change["half_size"]
    assert (mirror.stays.value, mirror.fallen, mirror.fallen_abstained) == (pytest.approx(2 / 3), 1, 1)
    assert mirror.accuracy.value == pytest.approx(found.evaluation.accuracy.value - 1 / 3)
    assert (darker.stays.value, darker.fallen) == (pytest.approx(2 / 3), 1)
    assert (half.stays.value, half.fallen) == (1.0, 0)
    assert found.least_stays == found.metrics()["stress/least_stays"] == pytest.approx(2 / 3)
    assert "seen in a mirror" in evaluation_page(found, "v", "m")


def test_clips_without_labels_show_whether_verdicts_stay_and_nothing_else(scorer, clips, monkeypatch, tmp_path) -> None:
    real = ClipScorer.score_many

    def scored(self, items, progress=None, change=None):
        """The real rows, but that the mirror changes every verdict."""
        for row in real(self, items, progress, None):
            other = next(c for c in row.classes if c != row.emotion)
            yield replace(row, emotion=other if change == "mirror" and row.emotion else row.emotion)

    monkeypatch.setattr(ClipScorer, "score_many", scored)
    items = [Item(replace(clip, emotion=None), root=clip.root) for clip in clips[:5]]
    found = stress_version(scorer, items)
    assert [clip.id for clip in found.clips] == ["right", "wrong", "nobody"]
    assert found.left_out == {"of people it was trained on": 1, "without a verdict: no_face": 1}
    assert found.least_stays == 0 and {s.stays.value for s in found.stress if s.change != "mirror"} == {1.0}
    assert all(s.accuracy is None for s in found.stress) and "stress/mirror/accuracy" not in found.metrics()
    page, markdown = (make(found, "face-emotion version 3", "mine") for make in (evaluation_page, evaluation_markdown))
    assert "| seen in a mirror | 0.0 [0.0, 0.0] | 3 |" in markdown and "right, %" not in markdown
    assert "3 clips of 3 people, without labels" in page and "Recall" not in page and "right, %" not in page


def test_a_folder_of_videos_has_no_labels_but_a_manifest_with_one_label_is_labelled(clips, tmp_path) -> None:
    folder = clips[0].path.parent
    assert len(unlabelled(folder)) == 4 and unlabelled(tmp_path / "absent.csv") == []
    rows = [f"{clips[0].path},fear,s1", f"{clips[1].path},,s2"]
    for n_labels, n_unlabelled in ((1, 0), (0, 1)):
        (tmp_path / "clips.csv").write_text("path,label,subject\n" + rows[1 - n_labels] + "\n")
        assert len(unlabelled(tmp_path / "clips.csv")) == n_unlabelled


def test_a_manifest_of_people_it_was_trained_on_is_refused(scorer, clips) -> None:
    with pytest.raises(DataError, match="no clip is left to evaluate on: 1 of people it was trained on"):
        evaluate_version(scorer, manifest(clips[3:4]))
