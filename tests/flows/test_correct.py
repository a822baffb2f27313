"""`ferflow data correct` as it is typed."""

from __future__ import annotations

import json

from fer_core.clips.clip import clip_digest
from tests.clips.test_corrections import WHEN, manifest, said  # noqa: F401  fixture
from tests.flows.test_cli import run


def test_corrections_are_put_in_place_and_accuracy_has_its_interval(manifest, tmp_path):  # noqa: F811
    digests = {name: clip_digest(tmp_path / f"{name}.mp4") for name in "ab"}
    path = said(
        tmp_path,
        [
            ("a", digests["a"], "fear", "fear", "0.3", "Ann", WHEN, "m", "1"),
            ("b", digests["b"], "sadness", "anger", "0.3", "Ann", WHEN, "m", "1"),
        ],
    )
    done = run("data", "correct", path, manifest, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["changed"] == {"b": ["anger", "sadness"]} and told["confirmed"] == ["a"]
    assert (told["right"], told["reviewed"]) == (1, 2)
    value, low, high = told["accuracy"]
    assert value == 0.5 and 0.09 < low < 0.1 and 0.9 < high < 0.91  # Wilson's
    assert "b,b.mp4,s2,sadness" in manifest.read_text() and f"Ann,{WHEN}" in manifest.read_text()


def test_columns_that_would_be_lost_are_kept_by_writing_elsewhere(manifest, tmp_path):  # noqa: F811
    manifest.write_text("clip,path,subject,label,camera\na,a.mp4,s1,fear,left\n")
    path = said(tmp_path, [("a", clip_digest(tmp_path / "a.mp4"), "anger", "fear", "0.3", "Ann", WHEN, "m", "1")])
    done = run("data", "correct", path, manifest)
    assert done.exit_code == 1 and "columns that ferflow does not read (camera)" in done.stderr
    assert "left" in manifest.read_text()
    assert run("data", "correct", path, manifest, "--out", tmp_path / "new.csv").exit_code == 0
    assert ",anger," in (tmp_path / "new.csv").read_text()
