"""The tables have the columns, words and flags that docs/outputs.md explains."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from fer_core.config import ScoreConfig
from fer_core.emotions import RESERVED, label_fault
from fer_core.errors import ClipStatus
from fer_core.models.adopted import NO_NEUTRAL
from fer_core.preprocess.faces import FrameStatus
from fer_core.preprocess.flags import FLAGS
from fer_core.preprocess.frame_table import frame_table
from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.tables import verdict_schema
from fer_core.scoring.windows_table import windows_table
from fer_core.tracking.pyfunc import output_columns
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video
from tests.scoring.conftest import LIMITS

PAGE = (Path(__file__).parents[2] / "docs" / "outputs.md").read_text(encoding="utf-8")


def explained(section: str) -> list[str]:
    """The words in the first column of a section's table; every cell of it says something."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert text, section
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text[1].splitlines() if line[:1] == "|"]
    assert all(len(row) == len(rows[0]) and all(row) for row in rows)
    return [row[0].strip("`") for row in rows[2:]]


@pytest.fixture(scope="module")
def out(scorer, store_root, tmp_path_factory) -> Path:
    """Results of two people's clips with groups, and of a folder of frames."""
    root = tmp_path_factory.mktemp("named")
    write_video(root / "a.mp4", [*plain_frames(8), *plain_frames(2), *face_frames(6)])
    write_folder(root / "b", face_frames(5))
    lines = ["clip,path,subject,dataset,label,group_sex,group_age", "a,a.mp4,1,lab,fear,f,", "b,b,2,lab,,m,30-40"]
    (root / "clips.csv").write_text("\n".join([*lines, ""]))
    timed = ClipScorer(
        scorer.bundle, ScoreConfig(windows={"length_s": 0.4, "frames_per_s": 0}), limits=LIMITS, store_root=store_root
    )
    return score_batch(timed, collect([root / "clips.csv"]), root / "out", store_root).out


def test_no_class_can_take_the_name_of_another_column():
    frames = [*frame_table(()).column_names, "share"]
    windows = windows_table((), (), False).column_names
    assert {*verdict_schema(()).names, *frames, *windows, *output_columns(())} <= RESERVED
    assert label_fault("group_sex") and not label_fault("pain")


@pytest.mark.parametrize(("section", "table"), [("Verdicts", "verdicts"), ("Frames", "frames"), ("Windows", "windows")])
def test_the_page_explains_the_columns_that_are_written(out, scorer, section, table):
    named = {"CLASS": [str(c) for c in scorer.classes], "group_NAME": ["group_age", "group_sex"]}
    columns = [column for word in explained(section) for column in named.get(word, [word])]
    assert pd.read_parquet(out / f"{table}.parquet").columns.tolist() == columns
    with (out / f"{table}.csv").open(newline="") as file:
        assert next(csv.reader(file)) == columns


def test_the_page_explains_every_status_and_flag():
    assert explained("Status") == [s.value for s in ClipStatus]
    assert sorted(explained("Status of a frame")) == sorted(s.value for s in FrameStatus)
    assert sorted(explained("Flags")) == sorted(FLAGS | {NO_NEUTRAL})


def test_what_the_manifest_says_of_a_clip_comes_through(out):
    table = pd.read_parquet(out / "verdicts.parquet")
    assert table["subject"].tolist() == ["lab:1", "lab:2"] and table["dataset"].tolist() == ["lab", "lab"]
    assert table["group_sex"].tolist() == ["f", "m"] and table["label"].tolist()[0] == "fear"
    assert pd.isna(table["group_age"][0]) and table["group_age"][1] == "30-40"
    assert table["duration_s"][0] == pytest.approx(0.64, abs=0.05) and table["fps"][0] == pytest.approx(25, rel=0.05)
    assert table[["duration_s", "fps"]].loc[1].isna().all()  # a folder of frames has no times
    assert table["synthetic_trained"].tolist() == [True, True]


def test_json_and_parquet_and_csv_hold_the_same(out):
    table = pd.read_parquet(out / "verdicts.parquet")
    entries = json.loads((out / "verdicts.json").read_text())
    assert [list(entry) for entry in entries] == [table.columns.tolist()] * len(table)
    pd.testing.assert_frame_equal(pd.DataFrame(entries), table, check_dtype=False)
    lines = pd.read_csv(out / "verdicts.csv")
    assert lines["subject"].tolist() == table["subject"].tolist()
    assert lines["synthetic_trained"].tolist() == [True, True]


def test_a_frame_without_a_face_has_an_empty_box(out):
    with (out / "frames.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["clip"] == "a"]
    assert {row["status"] for row in rows} == {"used", "no_face"}
    sides = ("x", "y", "width", "height", "weight", "share")
    for row in rows:
        assert all((row[side] == "") == (row["status"] == "no_face") for side in sides), row
