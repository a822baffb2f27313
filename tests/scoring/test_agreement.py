from __future__ import annotations

from fer_core.emotions import SIX, Emotion
from fer_core.errors import ClipStatus
from fer_core.scoring.agreement import Agreement
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.tally import Tally


def row(label: Emotion | None, emotion: Emotion | None, seen_in_training: bool | None) -> ClipScore:
    status = ClipStatus.OK if emotion else ClipStatus.NO_FACE
    return ClipScore("c", "/c.mp4", status, SIX, label=label, emotion=emotion, seen_in_training=seen_in_training)


def test_only_labelled_verdicts_of_people_not_trained_on_count():
    fear, anger = Emotion.FEAR, Emotion.ANGER
    rows = [row(fear, fear, True), row(fear, anger, True), row(fear, fear, False), row(anger, fear, None)]
    rows += [row(None, fear, False), row(fear, None, False)]
    assert Tally.of(rows).agreement == Agreement(clips=6, seen_in_training=2, unnamed=1, labelled=2, right=1)


def test_a_batch_of_training_clips_has_no_share_that_is_right():
    told = Tally.of([row(Emotion.FEAR, Emotion.FEAR, True)] * 3).agreement.sentence
    assert told == "3 of 3 clips show people the model was trained on"
