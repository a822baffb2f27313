"""The command line: what every command shares, and one sentence for each of the user's mistakes."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import time
from pathlib import Path
from unittest.mock import patch

import pytest
import typer
import yaml
from typer.testing import CliRunner

from fer_core.config import RunConfig, load_config
from fer_core.errors import DataError
from flows.cli import app
from flows.commands.session import Session, _Lines, _plain, command, printable
from flows.support.formatting import duration

HEADER = "clip,path,subject,label,dataset,split\n"


def run(*args: object):
    """A command in this process: exit code, stdout and stderr apart; the environment it points Prefect by is undone."""
    handlers = logging.getLogger().handlers
    try:
        with patch.dict(os.environ):
            return CliRunner().invoke(app, [str(a) for a in args])
    finally:
        logging.getLogger().handlers = handlers


def manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    return written(folder / "clips.csv", header + "".join(f"{row}\n" for row in rows))


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_help_answers_within_a_second(ferflow):
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([ferflow, "--help"], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert "preprocess" in done.stdout
    assert min(seconds) < 1


def commands() -> list[list[str]]:
    groups = [([], app), *(([g.name], g.typer_instance) for g in app.registered_groups)]
    return [
        [*group, c.callback.__name__.replace("_", "-")]
        for group, members in groups
        for c in members.registered_commands
    ]


@pytest.mark.parametrize("name", commands(), ids=" ".join)
def test_every_command_takes_the_shared_options(name):
    done = run(*name, "--help")
    assert done.exit_code == 0
    assert all(option in done.stdout for option in ("--config", "--set", "--workspace", "--json"))


MISTAKES = {
    "missing folder": (
        lambda tmp: ["data", "scan", "folder", tmp / "nowhere", "--out", tmp / "out.csv"],
        r"nowhere: no folder to scan \(No such file or directory\)",
    ),
    "no clips": (
        lambda tmp: ["data", "scan", "folder", tmp, "--out", tmp / "out.csv"],
        r"no clip of .* found .*; looked for ",
    ),
    "unknown database": (
        lambda tmp: ["data", "scan", "ckplsu", tmp, "--out", tmp / "out.csv"],
        r"did you mean 'ckplus'\?",
    ),
    "unknown reader option": (
        lambda tmp: ["data", "scan", "folder", tmp, "--out", tmp / "out.csv", "--option", "subjct=x"],
        r"no option 'subjct' \(did you mean 'subject'\?\)",
    ),
    "reader option of another type": (
        lambda tmp: ["data", "scan", "folder", tmp, "--out", tmp / "out.csv", "--option", "keep_split=maybe"],
        r"keep_split takes true or false",
    ),
    "missing manifest": (
        lambda tmp: ["data", "split", tmp / "none.csv", "--out", tmp / "out.csv"],
        r"none\.csv: the manifest cannot be read \(No such file or directory\)",
    ),
    "no subject column": (
        lambda tmp: [
            "data", "split", manifest(tmp, "a.mp4,fear", header="path,label\n"), "--out", tmp / "out.csv"
        ],
        r"clips\.csv has no column 'subject'; it has path, label",
    ),
    "one class only": (
        lambda tmp: [
            "data", "split", manifest(tmp, *(f"c{i},c{i}.mp4,s{i},fear,x," for i in range(8))), "--out", tmp / "out.csv"
        ],
        r"one class only; at least 2 classes are needed",
    ),
    "subject in two splits": (
        lambda tmp: [
            "data", "merge", manifest(tmp, "a,a.mp4,s1,fear,x,train", "b,b.mp4,s1,anger,x,test"), "--out", tmp / "o.csv"
        ],
        r"line 3: subject 'x:s1' is in train \(line 2\) and test",
    ),
    "two manifests that disagree": (
        lambda tmp: [
            "data", "merge", manifest(tmp, "a,a.mp4,s1,fear,x,"),
            written(tmp / "two.csv", HEADER + "a,a.mp4,s1,anger,x,\n"), "--out", tmp / "o.csv",
        ],
        r"a\.mp4 has emotion 'fear' in one manifest .* and 'anger' in another",
    ),
    "unknown key in YAML": (
        lambda tmp: ["config", "--config", written(tmp / "run.yaml", "train: {rate: 1}\n")],
        r"run\.yaml: unknown key 'train\.rate'",
    ),
    "unknown key in --set": (lambda tmp: ["config", "--set", "trian.lr=1"], r"did you mean 'train'\?"),
    "value out of bounds": (
        lambda tmp: ["config", "--set", "train.lr=7"],
        r"train\.lr: .*less than or equal to 1 \(got 7\)",
    ),
    "a flag that the model does not read": (
        lambda tmp: ["train", "--model", "lstm", "--set", "train.sampling=over", "--workspace", tmp / "workspace"],
        r"--set train\.sampling=over .*model 'lstm' does not read sampling",
    ),
    "missing config": (lambda tmp: ["config", "--config", tmp / "no.yaml"], r"no such config file: .*no\.yaml"),
    "missing weights": (
        lambda tmp: [
            "search", "--workspace", tmp / "workspace", "--set", "backbone.weights=/nowhere/vgg.safetensors",
            "--set", "classes=from_manifest",
            "--set", "manifest=" + str(
                manifest(tmp, *(f"c{i}{e},c{i}{e}.mp4,s{i},{e},x," for i in range(8) for e in ("fear", "anger")))
            ),
        ],
        r"no weights file at /nowhere/vgg\.safetensors; set backbone\.weights to ",
    ),
    "no manifest": (
        lambda tmp: ["preprocess", "--workspace", tmp / "workspace"],
        r"no manifest at .*workspace/clips\.csv; make one with 'ferflow data scan",
    ),
    "no champion": (
        lambda tmp: ["score", written(tmp / "a.mp4", ""), "--out", tmp / "o", "--workspace", tmp / "workspace"],
        r"no version of 'face-emotion' has alias 'champion' at .*; make one with 'ferflow train'",
    ),
    "a label that is none of the classes": (
        lambda tmp: [
            "data", "card", manifest(tmp, "a,a.mp4,s1,no pian,x,"), "--set", "classes=[pain, no_pain]",
            "--workspace", tmp / "workspace",
        ],
        r"clips\.csv line 2: label 'no pian' is unknown; did you mean 'no_pain'\?",
    ),
    "nothing to score": (
        lambda tmp: ["score", tmp, "--out", tmp / "o", "--workspace", tmp / "workspace"],
        r"nothing to score",
    ),
    "workspace not writable": (
        lambda tmp: ["store", "--workspace", manifest(tmp) / "inside"],
        r"workspace .*clips\.csv/inside is not writable \(Not a directory\); choose another",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(mistake, tmp_path):
    arguments, message = MISTAKES[mistake]
    done = run(*arguments(tmp_path))
    assert done.exit_code == 1
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert re.search(message, last), last


def test_a_mistake_is_an_object_under_json(tmp_path):
    done = run("data", "scan", "folder", tmp_path / "nowhere", "--out", tmp_path / "o.csv", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == 1
    assert told["kind"] == "DataError" and "nowhere" in told["error"]
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("args", [["--nosuch"], ["data", "synth"], ["up", "--mlflow-port", "99999"]])
def test_wrong_usage_ends_with_two(args):
    assert run(*args).exit_code == 2


def test_an_unforeseen_error_keeps_its_traceback():
    @command()
    def broken(session: Session) -> dict:
        return {"half": 1 / 0}

    with pytest.raises(ZeroDivisionError):
        broken(config_file=None, overrides=[], workspace="", as_json=False)


def test_control_characters_never_reach_the_terminal(capsys):
    @command()
    def forged(session: Session) -> dict:
        session.say("clip \x1b[2Jname\nERROR forged")
        session.note("\x1b[2Jname")
        session.table("\x07", ("\x1b",), [("\x1b[31m",)])
        raise DataError("clip \x1b]0;title\x07 is bad")

    with pytest.raises(typer.Exit):
        forged(config_file=None, overrides=[], workspace="", as_json=False)
    told = "".join(capsys.readouterr())
    assert "\x1b" not in told and "\x07" not in told
    assert r"clip \x1b[2Jname\nERROR forged" in told


def test_printable_leaves_names_of_all_scripts():
    assert printable("Ανάλυση 表情 é") == "Ανάλυση 表情 é"
    assert printable("a\ud800b") == r"a\ud800b"


def test_json_has_no_nan():
    import numpy as np

    found = _plain(
        {"recall": float("nan"), "n": np.int64(3), "m": np.float32(0.5), "where": Path("x"), "all": (1, [None])}
    )
    assert found == {"recall": None, "n": 3, "m": 0.5, "where": "x", "all": [1, [None]]}


def test_config_can_be_fed_back(tmp_path):
    changed = ["--set", "train.lr=0.005", "--set", "search.widths=[[512], []]", "--set", "preprocess.face.mode=tracked"]
    printed = run("config", *changed)
    file = tmp_path / "run.yaml"
    file.write_text(printed.stdout)
    assert load_config(file) == load_config(None, changed[1::2])
    assert json.loads(run("config", "--config", file, "--json").stdout) == load_config(file).model_dump(mode="json")


@pytest.mark.parametrize(
    "words, setting",
    [
        (("score", "film.mp4", "--out", "out"), "preprocess.face.min_size=0.1"),
        (("promote",), "train.lr=0.1"),
        (("preprocess",), "train.lr=0.1"),
        (("search",), "score.max_frames=0"),
        (("train",), "promote.force=true"),
        (("compare",), "score.device=cpu"),
        (("data", "merge", "a.csv", "--out", "b.csv"), "split.test=0.5"),
        (("status",), "tracking.uri=sqlite:///x.db"),
        (("up",), "tracking.uri=sqlite:///x.db"),
        (("doctor",), "score.device=cpu"),
        (("store",), "limits.timeout_s=5"),
        (("preprocess",), "train.lr=0.1"),
        (("data", "card", "a.csv"), "split.test=0.5"),
        (("weights",), "backbone.name=vgg16"),
        (("adopt", "fer2013"), "train.lr=0.1"),
        (("reproduce", "thesis"), "promote.force=true"),
        (("cross-database",), "score.device=cpu"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_setting_that_the_command_does_not_read_is_refused(words, setting, tmp_path):
    told = run(*words, "--set", setting, "--workspace", tmp_path)
    assert told.exit_code == 1 and f"does not read {setting.partition('=')[0]}, only workspace" in told.stderr


def test_config_explains_every_key():
    lines = run("config").stdout.splitlines()
    keys = [i for i, line in enumerate(lines) if line.strip() and not line.strip().startswith("#")]
    assert len(keys) > len(RunConfig.model_fields)
    assert all(lines[i - 1].strip().startswith("#") for i in keys)
    assert yaml.safe_load("\n".join(lines)) == RunConfig().model_dump(mode="json")


def test_set_wins_over_the_file_and_workspace_over_both(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("workspace: one\ntrain: {lr: 0.1, dropout: 0.2}\n")
    told = json.loads(run("config", "--config", file, "--set", "train.lr=0.2", "--workspace", "two", "--json").stdout)
    assert (told["train"]["lr"], told["train"]["dropout"], told["workspace"]) == (0.2, 0.2, "two")


def test_store_removes_after_a_yes_only(workspace):
    old, new = (workspace / "store" / "faces" / "ab" / f"{name}.safetensors" for name in ("ab1", "ab2"))
    old.parent.mkdir(parents=True)
    for path in (old, new):
        path.write_bytes(b"x" * 1000)
    os.utime(old, (0, 0))
    listed = {"entries": 2, "bytes": 2000, "removable_entries": 0, "removable_bytes": 0}
    assert json.loads(run("store", "--json").stdout)["kinds"]["faces"] == listed
    dry = run("store", "--older-than", 1)
    assert "Nothing is removed; --yes removes what may go." in dry.stdout and old.exists()
    pruned = json.loads(run("store", "--older-than", 1, "--yes", "--json").stdout)
    assert pruned["kinds"]["faces"] == {**listed, "removable_entries": 1, "removable_bytes": 1000}
    assert pruned["removed"] and new.exists() and not old.exists()


def test_store_asks_on_a_terminal(ferflow, workspace):
    old = workspace / "store" / "faces" / "ab" / "ab1.safetensors"
    old.parent.mkdir(parents=True)
    for answer, left in (("n", True), ("y", False)):
        old.write_bytes(b"x")
        os.utime(old, (0, 0))
        ours, theirs = pty.openpty()
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [ferflow, "store", "--older-than", "1"], stdin=theirs, capture_output=True, text=True, check=True
        )
        for end in (ours, theirs):
            os.close(end)
        assert "Remove 1 files?" in done.stderr and old.exists() is left


def test_progress_is_shown_on_a_terminal_only(ferflow, tmp_path):
    """`data diff` reads every clip; on a terminal a bar says so, in a pipe nothing does."""
    (tmp_path / "a.mp4").write_bytes(b"no video, but content")
    path = manifest(tmp_path, "a,a.mp4,s1,fear,x,")
    arguments = [ferflow, "data", "diff", str(path), str(path), "--json"]
    piped = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert piped.stderr == ""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True, env=environment)
    os.close(theirs)
    assert "Reading clips.csv" in os.read(ours, 65536).decode()
    os.close(ours)
    assert json.loads(done.stdout)["same_data"] is True


def test_progress_in_a_log_file_is_a_line_every_half_minute(monkeypatch):
    clock, lines = [0.0], []
    monkeypatch.setattr("flows.commands.session.time.monotonic", lambda: clock[0])
    progress = _Lines(lines.append)
    for done in range(0, 101):
        progress.move("Scoring", done, 400)
        clock[0] += 1.0
    assert lines == ["Scoring: 30 of 400, 6 min 10 s left", "Scoring: 60 of 400, 5 min 40 s left",
                     "Scoring: 90 of 400, 5 min 10 s left"]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600 * 2 + 300, "2 h 5 min")])
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_command_ends_with_the_next_one_in_the_same_settings(tmp_path):
    out = tmp_path / "a b"
    done = run("data", "synth", out, "--subjects", 1, "--workspace", tmp_path / "w", "--set", "limits.workers=1")
    settings = f"--set limits.workers=1 --workspace {tmp_path / 'w'}"
    assert done.stdout.splitlines()[-1] == f"Next, the best settings: ferflow search '{out}/manifest.csv' {settings}"
