"""`ferflow data scan` of every database in its true on-disk form: what it says of what it found."""

from __future__ import annotations

import json

import pytest

from fer_core.clips.datasets.survey import OPEN
from fer_core.clips.manifest import read_manifest
from tests.builders import databases
from tests.builders.media import put_video
from tests.flows.test_cli import run

DATABASES = ("ckplus", "mug", "mmi", "ised", "afew", "ravdess", "cremad")


@pytest.mark.parametrize("name", DATABASES)
def test_a_scan_accounts_for_everything_it_found(name, tmp_path):
    root, out = getattr(databases, name)(tmp_path / name), tmp_path / "clips.csv"
    told = json.loads(run("data", "scan", name, root, "--out", out, "--json").stdout)
    manifest = read_manifest(out, subject="none")
    assert told["kept"] == len(manifest) == sum(told["classes"].values()) == sum(told["subjects"].values())
    assert told["found"] == told["kept"] + sum(told["dropped"].values()) and told["dropped"]
    assert all(subject.startswith(f"{name}:") or not subject for subject in told["subjects"])
    assert told["redistribute"] is (name in OPEN)
    # a tiny database is not the published one; of MMI no count is published
    assert name == "mmi" or any("are published" in warning for warning in told["warnings"])


@pytest.mark.parametrize("name", ("ckplus", "ravdess"))
def test_a_scan_is_told_to_a_person(name, tmp_path):
    root = getattr(databases, name)(tmp_path / name)
    shown = run("data", "scan", name, root, "--out", tmp_path / "clips.csv").stdout
    first = next(c for c in read_manifest(tmp_path / "clips.csv").clips)
    assert f"{name}: " in shown and " found, " in shown and " kept, " in shown and " left out" in shown
    assert f"{first.subject} " in shown.partition("Clips of each subject: ")[2]
    assert "Note: " in shown
    assert f"redistribute: {'yes' if name in OPEN else 'no'}" in shown


def test_counts_that_are_the_published_ones_are_told_too(tmp_path):
    root, out = databases.ckplus_published(tmp_path / "ck"), tmp_path / "clips.csv"
    shown = run("data", "scan", "ckplus", root, "--out", out).stdout
    assert "As published: 327 labelled sequences, 309 clips of the six emotions, 106 subjects" in shown
    assert "Note: " not in shown


def test_a_dry_run_shows_how_clips_are_read_and_writes_nothing(tmp_path):
    for name in ("P01/Wut/a", "p1/Angst/b", "P02/pain/c"):
        put_video(tmp_path / f"lab/{name}.mp4")
    words = ("data", "scan", "folder", tmp_path / "lab", "--pattern", "{subject}/{label}/*")
    told = json.loads(run(*words, "--dry-run", "--json").stdout)
    assert [(r["path"], r["subject"], r["label"], r["result"]) for r in told["readings"]] == [
        ("P01/Wut/a.mp4", "P01", "Wut", "kept as anger"),
        ("P02/pain/c.mp4", "P02", "pain", "left out: label 'pain' unknown"),
        ("p1/Angst/b.mp4", "p1", "Angst", "kept as fear"),
    ]
    assert "Nothing is written" in run(*words, "--dry-run").stdout and not list(tmp_path.glob("*.csv"))
    assert "--out clips.csv, or look first with --dry-run" in run(*words).stderr


def test_who_was_joined_is_told_and_ids_can_be_kept(tmp_path):
    for name in ("P01/fear/a", "p1/anger/b"):
        put_video(tmp_path / f"lab/{name}.mp4")
    words = (
        "data",
        "scan",
        "folder",
        tmp_path / "lab",
        "--pattern",
        "{subject}/{label}/*",
        "--out",
        tmp_path / "c.csv",
    )
    assert "Joined, one person: 'lab:P01' is also written 'lab:p1' (--keep-ids" in run(*words).stdout
    assert json.loads(run(*words, "--json").stdout)["joined"] == {"lab:P01": ["lab:p1"]}
    assert "Joined" not in run(*words, "--keep-ids").stdout
    assert read_manifest(tmp_path / "c.csv").subjects == ("lab:P01", "lab:p1")


def test_labels_and_people_may_come_from_files_of_their_own(tmp_path):
    put_video(tmp_path / "lab/a.mp4")
    (tmp_path / "map.csv").write_text("H!,happiness\n")
    (tmp_path / "t.csv").write_text("name;label;subject\na.mp4;H!;s1\n")
    table = ("--labels", tmp_path / "map.csv", "--labels-from", tmp_path / "t.csv", "--by", "name")
    told = run("data", "scan", "folder", tmp_path / "lab", *table, "--out", tmp_path / "c.csv")
    (clip,) = read_manifest(tmp_path / "c.csv").clips
    assert (clip.subject, clip.emotion) == ("lab:s1", "happiness"), told.stderr
