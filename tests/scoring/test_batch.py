from __future__ import annotations

import csv
import shutil

import numpy as np
import pandas as pd
import pytest

from fer_core.clips.clip import clip_digest
from fer_core.config import LimitsConfig, ScoreConfig
from fer_core.errors import StoreError
from fer_core.scoring.batch import new_folder, score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.row_store import RowStore
from fer_core.scoring.scorer import ClipScorer
from tests.preprocess.films import face_frames, write_video
from tests.scoring.conftest import LIMITS


@pytest.fixture(scope="module")
def batch(scorer, videos, store_root, tmp_path_factory):
    return score_batch(scorer, collect([videos]), tmp_path_factory.mktemp("out"), store_root)


def test_every_item_has_a_row_and_the_files_agree(batch, scorer, videos):
    table = pd.read_parquet(batch.out / "verdicts.parquet")
    with (batch.out / "verdicts.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(table) == len(lines) == len(batch.rows) == len(collect([videos])) == 8
    assert [line["status"] for line in lines] == table["status"].tolist() == [r.status for r in batch.rows]
    assert list(lines[0]) == table.columns.tolist()
    assert batch.tally.counts == {"ok": 3, "low_quality": 2, "damaged": 1, "no_face": 1, "unsupported": 1}
    assert batch.tally.unscored == sum(not r.status.scored for r in batch.rows)
    assert set(table["model_version"]) == {"3"} and set(table["model_digest"]) == {scorer.bundle.digest}
    scored = table[table["emotion"].notna()]
    assert np.allclose(scored[[str(c) for c in scorer.classes]].sum(axis=1), 1)


def test_frames_table_has_every_selected_frame_and_scores_only_of_faces(batch, scorer):
    frames = pd.read_parquet(batch.out / "frames.parquet")
    assert len(frames) == sum(r.n_selected for r in batch.rows)
    shown = frames[[str(c) for c in scorer.classes]]
    assert frames["used"].sum() == sum(r.n_used for r in batch.rows)
    assert (shown.notna().all(axis=1) == frames["used"]).all()
    good = frames[frames["clip"].str.endswith("b/good.mp4")]
    assert good["frame"].tolist() == sorted(good["frame"]) and (good["width"] > 0).all()


def test_second_run_does_no_work_and_says_so(batch, scorer, videos, store_root, tmp_path):
    again = score_batch(scorer, collect([videos]), tmp_path, store_root)
    assert again.remembered == 7  # the empty file is refused before it is read, each time
    assert (tmp_path / "frames.parquet").read_bytes() == (batch.out / "frames.parquet").read_bytes()
    before, after = (
        pd.read_parquet(out / "verdicts.parquet").drop(columns="processing_s") for out in (batch.out, tmp_path)
    )
    pd.testing.assert_frame_equal(before, after)


def test_a_files_content_is_hashed_once_here_and_once_where_it_is_decoded(scorer, videos, tmp_path, monkeypatch):
    hashed = []

    def counted(path):
        hashed.append(path)
        return clip_digest(path)

    for module in ("fer_core.scoring.batch", "fer_core.preprocess.batch"):
        monkeypatch.setattr(f"{module}.clip_digest", counted)
    clip = next(videos.rglob("good.mp4"))
    score_batch(scorer, collect([clip]), tmp_path / "out", tmp_path / "store")
    assert hashed == [clip]


def test_fault_54_same_content_is_answered_under_each_of_its_names(batch, videos):
    first, second = (r for r in batch.rows if r.clip.endswith("good.mp4"))
    assert first.clip != second.clip and first.digest == second.digest
    assert np.array_equal(first.probabilities, second.probabilities)


def test_a_content_of_many_names_is_scored_once_and_has_a_row_for_each(bundle, videos, tmp_path, monkeypatch):
    scorer = ClipScorer(bundle, limits=LIMITS, store_root=tmp_path / "store")
    for i in range(3):
        shutil.copy(videos / "good.mp4", tmp_path / f"c{i}.mp4")
    lines = [f"clip{i},c{i}.mp4,s{i},{label}" for i, label in enumerate(("fear", "anger", "fear"))]
    (tmp_path / "clips.csv").write_text("\n".join(["clip,path,subject,label", *lines, ""]))
    judged, told = [], []
    monkeypatch.setattr(scorer, "judge", lambda *a: judged.append(1) or ClipScorer.judge(scorer, *a))
    batch = score_batch(
        scorer, collect([tmp_path / "clips.csv"]), tmp_path / "out", tmp_path / "store", lambda *a: told.append(a)
    )
    assert len(judged) == 1 and batch.remembered == 0 and told[-1] == (3, 3)
    assert [(r.clip, r.subject, r.label) for r in batch.rows] == [
        ("clip0", "s0", "fear"),
        ("clip1", "s1", "anger"),
        ("clip2", "s2", "fear"),
    ]
    assert len({r.probabilities.tobytes() for r in batch.rows}) == 1


def test_a_copy_of_a_file_that_vanished_during_the_batch_is_scored_itself(bundle, videos, tmp_path):
    scorer = ClipScorer(bundle, limits=LIMITS, store_root=tmp_path / "store")
    paths = [shutil.copy(videos / "good.mp4", tmp_path / f"{name}.mp4") for name in "abc"]

    def removes_the_first(*counts):
        (tmp_path / "a.mp4").unlink(missing_ok=True)

    batch = score_batch(scorer, collect(paths), tmp_path / "out", tmp_path / "store", removes_the_first)
    assert [str(row.status) for row in batch.rows] == ["missing", "ok", "ok"]


def test_stored_row_is_the_row(batch, store_root, scorer):
    rows = RowStore(store_root)
    for row in batch.rows:
        if row.digest:
            kept = rows.get(scorer.key(row.digest))
            assert (kept.status, kept.reason, kept.emotion, kept.flags) == (
                row.status,
                row.reason,
                row.emotion,
                row.flags,
            )
            assert kept.thumbnail == row.thumbnail and kept.abstained == row.abstained
            assert (kept.ledger is None) == (row.ledger is None)


def test_transient_rows_are_tried_again_and_final_ones_are_not(bundle, tmp_path, store_root):
    path = tmp_path / "late.mp4"
    scorer = ClipScorer(bundle, limits=LIMITS, store_root=store_root)
    missing = score_batch(scorer, collect([path]), tmp_path / "out", store_root)
    assert missing.tally.counts == {"missing": 1}
    write_video(path, face_frames(7))
    found = score_batch(scorer, collect([path]), tmp_path / "out", store_root)
    assert found.tally.counts == {"ok": 1} and found.remembered == 0


def test_rows_made_under_tight_limits_do_not_outlive_them(bundle, tmp_path, store_root):
    path = write_video(tmp_path / "long.mp4", face_frames(9))
    tight = ClipScorer(bundle, limits=LimitsConfig(max_bytes=100, workers=1), store_root=store_root)
    assert score_batch(tight, collect([path]), tmp_path / "a", store_root).tally.counts == {"too_large": 1}
    wide = ClipScorer(bundle, limits=LIMITS, store_root=store_root)
    assert score_batch(wide, collect([path]), tmp_path / "b", store_root).tally.counts == {"ok": 1}


def test_label_of_a_manifest_stands_beside_the_verdict(scorer, videos, store_root, tmp_path):
    manifest = tmp_path / "clips.csv"
    shutil.copy(videos / "good.mp4", tmp_path / "v.mp4")
    manifest.write_text("clip,path,label\nmine,v.mp4,fear\n")
    batch = score_batch(scorer, collect([manifest]), tmp_path / "out", store_root)
    assert batch.remembered == 1  # the content is known, its name and label are new
    assert (batch.rows[0].clip, batch.rows[0].label) == ("mine", "fear")
    assert pd.read_parquet(tmp_path / "out" / "verdicts.parquet")["label"].tolist() == ["fear"]


def test_fault_53_folder_that_cannot_be_written_is_found_before_any_work(scorer, videos, store_root, tmp_path):
    (tmp_path / "file").touch()
    told = []
    with pytest.raises(StoreError, match=r"cannot write results to .*; choose another with --out"):
        score_batch(scorer, collect([videos]), tmp_path / "file" / "out", store_root, lambda *a: told.append(a))
    assert told == []


def test_fault_106_cells_are_no_formulas(scorer, videos, store_root, tmp_path, monkeypatch):
    for name in ("=cmd.mp4", "+x.mp4", "-y.mp4", "@z.mp4", "\tt.mp4"):
        shutil.copy(videos / "good.mp4", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    names = sorted(p.name for p in tmp_path.glob("*.mp4"))
    score_batch(scorer, collect(names), tmp_path / "out", store_root)
    with (tmp_path / "out" / "verdicts.csv").open(newline="") as file:
        cells = [row["clip"] for row in csv.DictReader(file)]
    assert cells == [r"\tt.mp4", *(f"'{name}" for name in names[1:])]
    assert pd.read_parquet(tmp_path / "out" / "verdicts.parquet")["clip"].tolist() == names


def test_probabilities_survive_the_csv(batch, scorer):
    table = pd.read_csv(batch.out / "verdicts.csv")
    for row, (_, line) in zip(batch.rows, table.iterrows(), strict=True):
        if row.emotion:
            assert np.allclose([line[str(c)] for c in scorer.classes], row.probabilities, rtol=1e-5)


def test_results_replace_older_ones_whole(scorer, videos, store_root, tmp_path):
    (tmp_path / "verdicts.csv").write_text("older")
    score_batch(
        ClipScorer(scorer.bundle, ScoreConfig(), limits=LIMITS, store_root=store_root),
        collect([videos / "good.mp4"]),
        tmp_path,
        store_root,
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "frames.csv",
        "frames.parquet",
        "verdicts.csv",
        "verdicts.json",
        "verdicts.parquet",
    ]
    assert not (tmp_path / "verdicts.csv").read_text().startswith("older")


def test_every_batch_that_nobody_names_has_a_folder_of_its_own(tmp_path):
    folders = [new_folder(tmp_path / "scored") for _ in range(3)]
    assert len(set(folders)) == 3 and sorted(folders) == sorted((tmp_path / "scored").iterdir())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="choose another with --out"):
        new_folder(tmp_path / "file")


def test_people_trained_on_are_told_and_left_out_of_the_share_that_is_right(scorer, store_root, tmp_path):
    """In the table and in words; whoever is not named may be anybody."""
    write_video(tmp_path / "clip.mp4", face_frames(4))
    verdict = scorer.score(tmp_path / "clip.mp4").emotion
    others = next(c for c in scorer.classes if c is not verdict)
    people = ("drawn-synthetic:s000", "drawn-synthetic:s001", "drawn-synthetic:s002", "")
    labels = (verdict, verdict, others, verdict)
    for i in range(4):
        shutil.copy(tmp_path / "clip.mp4", tmp_path / f"c{i}.mp4")
    rows = [f"c{i},c{i}.mp4,{who},{label}" for i, (who, label) in enumerate(zip(people, labels, strict=True))]
    (tmp_path / "clips.csv").write_text("\n".join(["clip,path,subject,label", *rows, ""]))
    batch = score_batch(scorer, collect([tmp_path / "clips.csv"]), tmp_path / "out", store_root)
    told = (
        "1 of 4 clips show people the model was trained on; 1 do not say whom they show; "
        "2 of 3 verdicts are as labelled, the people trained on left out"
    )
    assert batch.tally.agreement.sentence == told
    assert pd.read_parquet(tmp_path / "out" / "verdicts.parquet")["seen_in_training"].tolist() == [
        True,
        False,
        False,
        None,
    ]
    with (tmp_path / "out" / "verdicts.csv").open(newline="") as file:
        assert [line["seen_in_training"] for line in csv.DictReader(file)] == ["true", "false", "false", ""]
