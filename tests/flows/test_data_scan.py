"""`ferflow data scan` of every database in its true on-disk form: what it says of what it found."""

from __future__ import annotations

import json

import pytest

from fer_core.clips.datasets.survey import OPEN
from fer_core.clips.manifest import read_manifest
from tests.builders import databases
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
