"""First frames as neutral clips: one a subject, on the subject's own side."""

from __future__ import annotations

from dataclasses import replace

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest
from fer_core.clips.neutral import LAST_FRAME, with_first_frames
from fer_core.config import PreprocessConfig
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.preprocess.selection import select


def people(tmp_path, dataset="ckplus", n=3, apex=9):
    sides = (Split.TRAIN, Split.TEST, Split.VALIDATION)
    return [
        Clip(f"{dataset}/{s}/{e}", tmp_path / f"{s}-{e}", f"{dataset}:{s}", e, dataset, apex, sides[s % 3])
        for s in range(n)
        for e in SIX
    ]


def made(manifest, whole):
    return whole.clips[len(manifest) :]


def test_each_subject_of_a_named_database_gets_one_neutral_clip_on_its_own_side(tmp_path):
    manifest = Manifest((*people(tmp_path), *people(tmp_path, "ised", 2)), SEVEN)
    whole = with_first_frames(manifest, ("ckplus", "mug"))
    assert whole.clips[: len(manifest)] == manifest.clips
    new = made(manifest, whole)
    assert [c.subject for c in new] == ["ckplus:0", "ckplus:1", "ckplus:2"]
    assert all(c.emotion is Emotion.NEUTRAL and c.id.endswith("@neutral") for c in new)
    assert {c.subject: c.split for c in new}.items() <= {c.subject: c.split for c in manifest.clips}.items()


def test_the_clip_is_cut_before_its_expression(tmp_path):
    manifest = Manifest(tuple(people(tmp_path)), SEVEN)
    [cut] = {c.apex for c in made(manifest, with_first_frames(manifest, ("ckplus",)))}
    assert cut == LAST_FRAME
    assert select(20, cut, PreprocessConfig()).tolist() == [1, 2]


def test_subjects_with_neutral_clips_or_short_ones_get_none(tmp_path):
    clips = people(tmp_path)
    clips[5] = replace(clips[5], emotion=Emotion.NEUTRAL)
    clips[6:12] = [replace(c, apex=LAST_FRAME) for c in clips[6:12]]
    manifest = Manifest(tuple(clips), SEVEN)
    assert [c.subject for c in made(manifest, with_first_frames(manifest, ("ckplus",)))] == ["ckplus:2"]


def test_the_order_of_the_manifest_does_not_matter(tmp_path):
    clips = people(tmp_path)
    forth, back = (with_first_frames(Manifest(tuple(c), SEVEN), ("ckplus",)) for c in (clips, clips[::-1]))
    assert {c.id for c in forth.clips} == {c.id for c in back.clips}
