"""Items 63-76 of the fault catalogue as a user meets them: each one sentence, with the line, the value, the remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fer_core.clips.manifest import read_manifest
from tests.flows.test_cli import run

HEADER = "clip,path,subject,label,dataset,split\n"
Fault = Callable[[Path], list[object]]


def manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "clips.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def merge(folder: Path, path: Path) -> list[object]:
    return ["data", "merge", path, "--out", folder / "o.csv"]


def settings(folder: Path, text: str) -> list[object]:
    (folder / "run.yaml").write_text(text)
    return ["config", "--config", folder / "run.yaml"]


def train(folder: Path, *rows: str) -> list[object]:
    return ["preprocess", "--set", f"manifest={manifest(folder, *rows)}", "--workspace", folder / "ws"]


def encoded(folder: Path, data: bytes) -> Path:
    (folder / "clips.csv").write_bytes(data)
    return folder / "clips.csv"


FAULTS: dict[str, tuple[Fault, str]] = {
    "63 subject in two splits": (
        lambda tmp: train(tmp, "a,a.mp4,s1,fear,x,train", "b,b.mp4,s1,anger,x,test"),
        r"clips\.csv line 3: subject 'x:s1' is in train \(line 2\) and test; .* Run 'ferflow data split'",
    ),
    "64 class missing in train": (
        lambda tmp: train(
            tmp, "a,a.mp4,s1,fear,x,train", "b,b.mp4,s1,anger,x,train", "c,c.mp4,s2,fear,,test", "d,d.avi,s2,joy,,test"
        ),
        r"happiness has 1 test clips but none to train on; split with another seed, add subjects, or drop",
    ),
    "65 single class": (
        lambda tmp: train(tmp, "a,a.mp4,s1,fear,x,train", "b,b.mp4,s2,fear,x,train"),
        r"the training side has only fear; it needs at least 2 classes",
    ),
    "66 label with a typing error": (
        lambda tmp: merge(tmp, manifest(tmp, "a,a.mp4,s1,fear,x,", "b,b.mp4,s2,suprise,x,")),
        r"clips\.csv line 3: label 'suprise' is unknown; did you mean 'surprise'\?",
    ),
    "66 label of no class": (
        lambda tmp: merge(tmp, manifest(tmp, "a,a.mp4,s1,qqq,x,")),
        r"line 2: label 'qqq' is not one of the six; use one of anger, disgust, fear, happiness, sadness, surprise",
    ),
    "67 not UTF-8": (
        lambda tmp: merge(tmp, encoded(tmp, HEADER.encode() + b"a,a.mp4,s1,fear,x,\nb,Ren\xe9.mp4,s2,fear,x,\n")),
        r"clips\.csv line 3: byte 0xE9 is not UTF-8; save the file as 'CSV UTF-8'",
    ),
    "69 the same clip with two labels": (
        lambda tmp: merge(tmp, manifest(tmp, "a,a.mp4,s1,fear,x,", "b,a.mp4,s1,anger,x,")),
        r"line 3: 'a\.mp4' has label 'anger' here and 'fear' in line 2; a clip has one\. Remove the wrong row",
    ),
    "71 empty file": (lambda tmp: merge(tmp, encoded(tmp, b"")), r"clips\.csv is empty; it needs a header 'path,"),
    "71 header only": (lambda tmp: merge(tmp, manifest(tmp)), r"clips\.csv has no usable row \(only a header\)"),
    "71 no column": (
        lambda tmp: merge(tmp, manifest(tmp, "a.mp4,fear", header="file,label\n")),
        r"clips\.csv has no column 'path'; it has file, label",
    ),
    "71 cells missing": (
        lambda tmp: merge(tmp, manifest(tmp, "a,a.mp4,s1,fear")),
        r"clips\.csv line 2: 4 cells, but the header has 6",
    ),
    "72 learning rate 0": (lambda tmp: ["config", "--set", "train.lr=0"], r"train\.lr: .* greater than 0 \(got 0\)"),
    "72 NaN": (lambda tmp: ["config", "--set", "train.lr=.nan"], r"train\.lr: .* \(got nan\)"),
    "72 infinity": (lambda tmp: ["config", "--set", "train.lr=.inf"], r"train\.lr: .* \(got inf\)"),
    "72 a word for a number": (lambda tmp: ["config", "--set", "train.epochs=many"], r"train\.epochs: .* \(got 'many'"),
    "74 a YAML tag that runs code": (
        lambda tmp: settings(tmp, "train: !!python/object/apply:os.system ['touch ran']\n"),
        r"run\.yaml: cannot be read as YAML \(could not determine a constructor for the tag",
    ),
    "74 a nest of aliases": (
        lambda tmp: settings(tmp, "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"),
        r"run\.yaml: cannot be read as YAML \(aliases are not accepted\)",
    ),
    "74 an unknown key": (
        lambda tmp: settings(tmp, "trian: {lr: 0.1}\n"),
        r"run\.yaml: unknown key 'trian' \(did you mean 'train'\?\)",
    ),
    "103 a path that is an address": (
        lambda tmp: merge(tmp, manifest(tmp, "a,http://x/a.mp4,s1,fear,x,")),
        r"line 2: path 'http://x/a\.mp4' reads as a URL, protocol or drive, which are never opened",
    ),
    "103 a path that leads out": (
        lambda tmp: merge(tmp, manifest(tmp, "a,../a.mp4,s1,fear,x,")),
        r"line 2: path '\.\./a\.mp4' has '\.\.', which may lead out of",
    ),
    "an apex that is no frame": (
        lambda tmp: merge(tmp, manifest(tmp, "a.mp4,s1,fear,last", header="path,subject,label,apex\n")),
        r"line 2: apex 'last' is not a frame number; frames are whole numbers that count from 0",
    ),
    "a split of another name": (
        lambda tmp: merge(tmp, manifest(tmp, "a,a.mp4,s1,fear,x,tarin")),
        r"line 2: split 'tarin' is unknown; did you mean 'train'\?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_told_in_one_sentence(fault, tmp_path):
    arguments, message = FAULTS[fault]
    done = run(*arguments(tmp_path))
    assert done.exit_code == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and "Traceback" not in done.stderr
    assert re.search(message, last), last
    assert not (tmp_path / "o.csv").exists() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("fault", ["68 BOM", "68 CRLF", "68 semicolons", "66 case and space", "69 a row twice"])
def test_fault_is_accepted(fault, tmp_path):
    rows = ["a,a.mp4,s1,fear,x,", "b,b.mp4,s2,anger,x,"]
    text = HEADER + "\n".join(rows) + "\n"
    written = {
        "68 BOM": text.encode("utf-8-sig"),
        "68 CRLF": text.replace("\n", "\r\n").encode(),
        "68 semicolons": text.replace(",", ";").encode(),
        "66 case and space": text.replace("fear", " Fearful ").encode(),
        "69 a row twice": (text + rows[0] + "\n").encode(),
    }[fault]
    plain, odd = tmp_path / "plain.csv", tmp_path / "odd.csv"
    (tmp_path / "in.csv").write_text(text)
    assert run("data", "merge", tmp_path / "in.csv", "--out", plain).exit_code == 0
    assert run("data", "merge", encoded(tmp_path, written), "--out", odd).exit_code == 0
    assert read_manifest(odd) == read_manifest(plain)


def test_fault_64_a_class_without_test_clips_is_warned_of_not_refused(tmp_path, workspace):
    (tmp_path / "x.txt").touch()
    rows = ("a,a.mp4,s1,fear,x,train", "b,b.mp4,s1,anger,x,train", "c,c.mp4,s2,fear,x,test")
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode() * 100)
    done = run(
        "data", "split", manifest(tmp_path, *rows), "--out", tmp_path / "o.csv", "--no-people", "--json",
        "--set", "split.scheme=official",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["splits"][0]["warnings"] == [
        "anger has no test clip: its recall there is undefined (NaN)"
    ]
