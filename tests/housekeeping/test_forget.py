"""A person who withdraws leaves nothing behind in the workspace, and nobody else loses anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, read_manifest, write_manifest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.emotions import Emotion
from fer_core.errors import DataError
from fer_core.housekeeping.forget import forget
from fer_core.models.bundle import subject_digest
from fer_core.preprocess.clip_rows import store_faces
from fer_core.preprocess.perceptual_hash import hash_clips
from fer_core.store import EntryStore
from fer_core.workspace import Workspace
from tests.preprocess.films import face_frames, write_video
from tests.saved_models import small_bundle

LIMITS = LimitsConfig(workers=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with two clips each; faces, hashes, features, a table of both and a table of one, verdicts, models."""
    tmp_path = tmp_path_factory.mktemp("built")
    clips = []
    for person in ("ann", "bob"):
        for emotion in (Emotion.FEAR, Emotion.ANGER):
            path = tmp_path / f"{person}_{emotion}.mp4"
            write_video(path, [np.roll(f, len(clips), axis=1) for f in face_frames(4)])
            clips.append(Clip(path.stem, path, f"lab:{person}", emotion, "lab"))
    write_manifest(Manifest(tuple(clips)), tmp_path / "clips.csv")
    workspace = Workspace.open(str(tmp_path / "ws"))
    rows = store_faces(clips, PreprocessConfig(), LIMITS, workspace.store)
    hash_clips(clips, LIMITS, workspace.store)
    array = {"x": np.zeros(3, np.float32)}
    for row in rows:
        EntryStore(workspace.store, "features").put(f"f{row.key}", array, {"faces": row.key})
        EntryStore(workspace.store, "verdicts").put(f"a{row.key}", array, {"digest": row.digest})
    for name, people in {"ab": ["lab:ann", "lab:bob"], "bb": ["lab:bob"]}.items():
        EntryStore(workspace.store, "matrix").put(name, array, {"subjects": people})
    for name in ("ann", "bob"):
        small_bundle(workspace.models / name, subjects=(subject_digest(f"lab:{name}"),))
    return tmp_path


@pytest.fixture
def lab(built: Path, tmp_path: Path) -> tuple[Workspace, Path]:
    """A copy of it, to be forgotten in."""
    shutil.copytree(built, tmp_path / "lab")
    return Workspace.open(str(tmp_path / "lab" / "ws")), tmp_path / "lab" / "clips.csv"


def entries(workspace: Workspace) -> dict[str, int]:
    kinds = sorted(p.name for p in workspace.store.iterdir())
    return {kind: len(list(EntryStore(workspace.store, kind).keys())) for kind in kinds}


def test_all_of_one_person_goes_and_all_of_the_other_stays(lab: tuple[Workspace, Path]) -> None:
    workspace, manifest = lab
    assert entries(workspace) == {"faces": 4, "features": 4, "hashes": 4, "matrix": 2, "verdicts": 4}
    looked = forget("lab:ann", manifest, workspace, dry=True)
    assert sum(entries(workspace).values()) == 18 and len(read_manifest(manifest)) == 4
    found = forget("lab:ann", manifest, workspace)
    assert found == looked
    assert found.removed == {"faces": 2, "features": 2, "hashes": 2, "matrix": 1, "verdicts": 2}
    assert entries(workspace) == {"faces": 2, "features": 2, "hashes": 2, "matrix": 1, "verdicts": 2}
    assert found.rows == 2 and read_manifest(manifest).subjects == ("lab:bob",)
    assert found.models == (workspace.models / "ann",)
    assert all(clip.path.is_file() for clip in found.clips)
    for wrong in ("lab:bop", "bob"):
        with pytest.raises(DataError, match=f"no clip of subject '{wrong}'; did you mean 'lab:bob'"):
            forget(wrong, manifest, workspace)


def test_nobody_in_particular_is_not_forgotten(lab: tuple[Workspace, Path]) -> None:
    workspace, manifest = lab
    manifest.write_text(manifest.read_text().replace("lab:ann", ""))
    before = manifest.read_bytes()
    with pytest.raises(DataError, match="whom to forget is empty"):
        forget("", manifest, workspace)
    assert manifest.read_bytes() == before


def test_the_other_rows_keep_every_cell(lab: tuple[Workspace, Path]) -> None:
    workspace, manifest = lab
    head = "clip;path;subject;label;dataset;group_sex;remark\r\n"
    rows = ["ann_fear;ann_fear.mp4;ann;fear;lab;f;a\r\n", "x;bob_fear.mp4;bob;Scared;lab;;'=1\r\n"]
    manifest.write_bytes((head + "".join(rows)).encode("utf-8-sig"))
    assert forget("lab:ann", manifest, workspace).rows == 1
    assert (
        manifest.read_text() == "clip,path,subject,label,dataset,group_sex,remark\nx,bob_fear.mp4,bob,Scared,lab,,'=1\n"
    )


def test_a_clip_that_is_gone_is_named(lab: tuple[Workspace, Path]) -> None:
    workspace, manifest = lab
    (manifest.parent / "ann_fear.mp4").unlink()
    found = forget("lab:ann", manifest, workspace)
    assert found.unread == ("ann_fear",) and found.removed["faces"] == 1


def test_scored_folders_that_show_the_person_are_named(lab: tuple[Workspace, Path]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fer_core.clips.clip import clip_digest

    workspace, manifest = lab
    for name in ("ann", "bob"):
        folder = workspace.root / f"scored-{name}"
        folder.mkdir()
        digest = clip_digest(manifest.parent / f"{name}_fear.mp4")
        pq.write_table(pa.table({"clip_digest": [digest]}), folder / "verdicts.parquet")
    assert forget("lab:ann", manifest, workspace, dry=True).results == (workspace.root / "scored-ann",)


def test_pictures_of_faces_that_lie_in_the_workspace_are_named(lab: tuple[Workspace, Path]) -> None:
    workspace, manifest = lab
    assert forget("lab:ann", manifest, workspace, dry=True).pages == ()
    workspace.card.touch()
    workspace.contact_sheet.touch()
    assert forget("lab:ann", manifest, workspace, dry=True).pages == (workspace.card, workspace.contact_sheet)
