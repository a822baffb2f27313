"""One recording under two names does not get into a run, whoever split the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest
from fer_core.clips.neutral import with_first_frames
from fer_core.config import LimitsConfig, RunConfig, SplitConfig
from fer_core.dataset.leak_gate import refuse_leaks, refuse_shared
from fer_core.emotions import SEVEN, Emotion
from fer_core.errors import DataError
from fer_core.preprocess.clip_rows import ClipRow, store_faces
from fer_core.workspace import Workspace
from tests.datasets import stored_corpus
from tests.flows.test_data_commands import recording
from tests.preprocess.films import write_video

CONFIG = RunConfig(limits=LimitsConfig(workers=1))


def test_fault_70_the_same_content_under_two_people_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.open(str(tmp_path))
    manifest, rows = stored_corpus(workspace)
    refuse_leaks(manifest, rows, CONFIG, workspace)
    rows[-1] = replace(rows[-1], digest=rows[5].digest)  # both surprise
    with pytest.raises(DataError, match=r"1 leaks: clips '.*s00_surprise' and '.*s04_surprise' have the same content"):
        refuse_leaks(manifest, rows, CONFIG, workspace)


def test_a_copy_under_another_person_is_refused_until_a_person_clears_it(tmp_path: Path) -> None:
    workspace = Workspace.open(str(tmp_path / "ws"))
    clips = []
    for name, codec, side in (("a.mp4", "libx264", Split.TRAIN), ("b.avi", "mpeg4", Split.TEST)):
        path = write_video(tmp_path / name, recording(1), codec)
        clips.append(Clip(name, path, f"lab:{name[0]}", Emotion.FEAR, "lab", split=side))
    manifest, rows = (
        Manifest(tuple(clips)),
        store_faces(clips, CONFIG.preprocess, CONFIG.limits, workspace.store),
    )
    with pytest.raises(DataError, match=r"clips 'a\.mp4' and 'b\.avi' .* look like one recording"):
        refuse_leaks(manifest, rows, CONFIG, workspace)
    cleared = CONFIG.model_copy(update={"split": SplitConfig(allow_pairs=(("a.mp4", "b.avi"),))})
    refuse_leaks(manifest, rows, cleared, workspace)


def test_a_neutral_clip_of_first_frames_is_no_leak(tmp_path: Path) -> None:
    workspace = Workspace.open(str(tmp_path))
    manifest, rows = stored_corpus(workspace)
    whole = with_first_frames(replace(manifest, classes=SEVEN), manifest.datasets)
    assert len(whole) > len(manifest)
    by_id = {row.clip: row for row in rows}
    rows = [replace(by_id[c.id.partition("@")[0]], clip=c.id) for c in whole.clips]
    refuse_leaks(whole, rows, CONFIG, workspace)


def test_a_recording_fitted_to_is_not_shown_again_as_another_persons(tmp_path: Path) -> None:
    workspace = Workspace.open(str(tmp_path / "ws"))

    def shot(name: str, codec: str, seed: int, subject: str) -> tuple[list[Clip], list[ClipRow]]:
        path = write_video(tmp_path / name, recording(seed), codec)
        clips = [Clip("a.mp4", path, f"lab:{subject}", Emotion.FEAR, "lab", split=Split.TRAIN)]
        return clips, store_faces(clips, CONFIG.preprocess, CONFIG.limits, workspace.store)

    fitted, seen = shot("a.mp4", "libx264", 1, "anna"), []
    refuse_shared(fitted, shot("c.mp4", "libx264", 2, "carl"), "wild.csv", CONFIG, workspace, lambda *n: seen.append(n))
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(DataError, match=r"clips 'a\.mp4' and 'wild\.csv: a\.mp4' .* look like one recording"):
        refuse_shared(fitted, shot("b.avi", "mpeg4", 1, "bert"), "wild.csv", CONFIG, workspace)
