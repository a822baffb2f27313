"""Making room takes only what nothing uses, and results only when they are named."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest, write_manifest
from fer_core.config import LimitsConfig, PreprocessConfig, TrainConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.table import FeatureRequirements, load_table
from fer_core.dataset.training_table import training_table
from fer_core.emotions import Emotion
from fer_core.errors import DataError
from fer_core.experiments.search.trial import TrialSpec, write_spec
from fer_core.features.descriptors.descriptor import course_config
from fer_core.housekeeping.prune import RESULTS, files_of, removable, remove
from fer_core.preprocess.clip_rows import store_faces
from fer_core.preprocess.perceptual_hash import hash_clips
from fer_core.store import EntryStore
from fer_core.workspace import Workspace
from tests.preprocess.films import face_frames, write_video

LIMITS, USED, OLD = LimitsConfig(workers=1), PreprocessConfig(), PreprocessConfig(equalize="opencv")
WANTED = FeatureRequirements(plain=False, descriptors=("displacement",))
ARRAY = {"x": np.zeros(3, np.float32)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A clip of the demo's manifest and one of nobody's, each with everything that can be stored of it.

    The listed clip has faces under `USED` and `OLD`, and a table of each; the other clip and `OLD` belong to no list.
    """
    workspace = Workspace.open(str(tmp_path_factory.mktemp("built")))
    clips = []
    for shift, name in enumerate(("listed", "other")):
        path = workspace.drawn_manifest.parent / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [np.roll(frame, 3 * shift, axis=1) for frame in face_frames(4)])
        clips.append(Clip(name, path, f"s:{name}", Emotion.FEAR, "synthetic", split=Split.TRAIN))
    write_manifest(Manifest((clips[0],)), workspace.drawn_manifest)
    for clip in clips:
        for cfg in (USED, OLD):
            rows = store_faces([clip], cfg, LIMITS, workspace.store)
            course = store_faces([clip], course_config(cfg), LIMITS, workspace.store)
            training_table(Dataset.of(Manifest((clip,)), rows, course), None, cfg, workspace, WANTED)
            EntryStore(workspace.store, "features").put(f"f{rows[0].key}", ARRAY, {"faces": rows[0].key})
        EntryStore(workspace.store, "verdicts").put(f"v{clip.id}", ARRAY, {"digest": rows[0].digest})
    hash_clips(clips, LIMITS, workspace.store)
    EntryStore(workspace.store, "comparisons").put("c", ARRAY, {})
    EntryStore(workspace.store, "fc").put("fc", ARRAY, {"layers": 1})
    return workspace


@pytest.fixture
def workspace(built: Workspace, tmp_path: Path) -> Workspace:
    """A copy, to be pruned."""
    shutil.copytree(built.root, tmp_path / "ws")
    return Workspace.open(str(tmp_path / "ws"))


def kinds(workspace: Workspace, files: Iterable[Path]) -> dict[str, int]:
    return dict(Counter(path.relative_to(workspace.store).parts[0] for path in files))


def everything(workspace: Workspace) -> dict[str, int]:
    return {kind: len(paths) for kind, paths in files_of(workspace.store).items()}


def table_of(workspace: Workspace, clip: str, cfg: PreprocessConfig) -> Path:
    tables = EntryStore(workspace.store, "matrix")
    notes = {key: tables.note(key) or {} for key in tables.keys()}  # noqa: SIM118
    (found,) = (
        key
        for key, note in notes.items()
        if note["clips"] == [clip] and note.get("note", {}).get("preprocess") == cfg.model_dump_json()
    )
    return tables.path(found)


def test_what_the_demos_clips_use_stays_and_so_do_results(workspace):
    found = removable(workspace, USED, unused=True)
    assert kinds(workspace, found) == {"faces": 6, "features": 3, "hashes": 1, "matrix": 6}
    remove(found)
    assert everything(workspace) == {
        "comparisons": 1, "faces": 2, "fc": 1, "features": 1, "hashes": 1, "matrix": 2, "verdicts": 2,
    }  # fmt: skip
    assert load_table(table_of(workspace, "listed", USED)).described["displacement"].shape[0] == 1
    assert removable(workspace, USED, unused=True) == []


def test_results_go_when_they_are_named(workspace):
    found = kinds(workspace, removable(workspace, USED, unused=True, also=("verdicts",)))
    assert found["verdicts"] == 2 and "comparisons" not in found
    assert kinds(workspace, removable(workspace, USED, unused=True, also=("comparisons",)))["comparisons"] == 1


def test_what_a_trial_reads_stays_whatever_the_present_settings_and_manifest(workspace):
    """The faces of listed clips under its settings, too: resuming it would make them again."""
    mine, others = (table_of(workspace, clip, OLD) for clip in ("listed", "other"))
    for place, table in (("studies/a/trial-0000", mine), ("settings/b", others)):
        (workspace.root / place).mkdir(parents=True)
        spec = TrialSpec(number=0, study="a", train=TrainConfig(), table=table, folds=2, seed=0)
        write_spec(workspace.root / place, spec)
    remove(removable(workspace, USED, unused=True))
    assert load_table(mine).clip_ids == ("listed",) and load_table(others).clip_ids == ("other",)
    left = everything(workspace)
    assert (left["faces"], left["features"], left["matrix"]) == (4, 2, 6)


def test_clips_of_every_manifest_named_are_in_use(workspace, tmp_path):
    path = workspace.drawn_manifest.parent / "other.mp4"
    write_manifest(Manifest((Clip("other", path, "s:other", Emotion.FEAR, "synthetic"),)), tmp_path / "others.csv")
    found = removable(workspace, USED, [workspace.drawn_manifest, tmp_path / "others.csv"], unused=True)
    assert kinds(workspace, found) == {"faces": 4, "features": 2, "matrix": 4}


def test_nothing_goes_while_a_listed_clip_cannot_be_read(workspace):
    (workspace.drawn_manifest.parent / "listed.mp4").unlink()
    with pytest.raises(DataError, match=r"clip 'listed': .* restore it or drop its row"):
        removable(workspace, USED, unused=True)
    workspace.drawn_manifest.unlink()
    with pytest.raises(DataError, match=r"no manifest at .*clips.csv; name the manifests in use: ferflow store CSV"):
        removable(workspace, USED, unused=True)


def test_age_and_use_both_count(workspace):
    files = [path for paths in files_of(workspace.store).values() for path in paths]
    for path in files:
        os.utime(path, (0, 0))
    unused = removable(workspace, USED, unused=True)
    os.utime(unused[0])
    assert removable(workspace, USED, unused=True, older_than_days=1) == unused[1:]
    assert kinds(workspace, removable(workspace, USED, older_than_days=1)).keys() == everything(workspace).keys() - {
        *RESULTS
    }


def test_half_written_files_are_left_to_their_writer_for_a_day(workspace):
    path = workspace.store / "faces" / "ab" / ".tmp-0123"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    assert path not in removable(workspace, USED, unused=True)
    os.utime(path, (0, 0))
    assert path in removable(workspace, USED, unused=True)
