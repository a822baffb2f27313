"""The Python API, as a program uses it: `from ferflow import Scorer`."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

import ferflow
from fer_core.errors import ConfigError, RegistryError, ShapeError
from ferflow import ClipStatus, ScoreConfig, Scorer
from tests.preprocess.films import face_frames, plain_frames, write_video


@pytest.fixture(scope="module")
def scorer(champion_workspace) -> Scorer:
    return Scorer.champion(workspace=champion_workspace)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Ten frames; lossless, so that decoded frames are the same in memory."""
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", face_frames(10), options={"qp": "0"})


def decoders() -> list[psutil.Process]:
    """The decoding processes of this process."""
    return [child for child in psutil.Process().children() if "fer_core.preprocess.sandbox" in child.cmdline()]


def test_package_exports_what_it_names_and_is_typed():
    assert all(hasattr(ferflow, name) for name in ferflow.__all__)
    assert resources.files("ferflow").joinpath("py.typed").is_file()


def test_champion_is_the_version_that_the_registry_names(scorer, champion_workspace):
    assert (scorer.name, scorer.version) == ("face-emotion", 1)
    other = Scorer("models:/face-emotion/2", workspace=champion_workspace)
    assert other.version == 2 and other.classes == scorer.classes
    assert Scorer("models:/face-emotion@challenger", workspace=champion_workspace).version == 2


def test_file_is_scored(scorer, film):
    verdict = scorer.score(film)
    assert verdict.status is ClipStatus.OK and verdict.emotion in scorer.classes
    assert sum(verdict.by_class.values()) == pytest.approx(1)
    assert verdict.by_class[verdict.emotion] == pytest.approx(verdict.confidence)


def test_bad_file_is_a_verdict_with_a_reason(scorer, tmp_path):
    (tmp_path / "page.mp4").write_text("<html>")
    verdict = scorer.score(tmp_path / "page.mp4")
    assert verdict.status is ClipStatus.UNSUPPORTED and verdict.reason and verdict.emotion is None
    assert np.isnan(list(verdict.by_class.values())).all()


def test_array_and_frames_give_the_verdict_of_the_file(scorer, film):
    of_file = scorer.score(film)
    grey = np.stack(face_frames(10))
    rgb = np.repeat(grey[..., None], 3, axis=-1)
    for given in (grey, rgb, list(rgb), (frame for frame in grey)):
        verdict = scorer.score(given, rate=25)
        assert verdict.emotion == of_file.emotion and verdict.n_used == of_file.n_used == 5
        # the file's luma is squeezed to 16...235 and back
        assert np.allclose(verdict.probabilities, of_file.probabilities, atol=0.01)
    assert verdict.ledger.time_s[-1] == pytest.approx(9 / 25)


def test_one_frame_is_a_clip_of_one(scorer):
    (frame,) = face_frames(1)
    assert scorer.score(frame).status is scorer.score(frame[None]).status is ClipStatus.LOW_QUALITY


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((2, 8, 8), np.float32), r"a frame must be .*, but got \(8, 8\) float32"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"but got \(8, 8, 4\) uint8"),
        ([], "there are no frames to score"),
    ],
)
def test_frames_of_another_form_are_refused_in_a_sentence(scorer, given, sentence):
    with pytest.raises(ShapeError, match=sentence):
        scorer.score(given)


def test_folder_is_scored_as_it_goes(scorer, film, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(film.read_bytes())
    verdicts = list(scorer.score_all([tmp_path]))
    assert [Path(v.path).name for v in verdicts] == ["a.mp4", "b.mp4"]
    assert len({v.emotion for v in verdicts}) == 1


def test_stream_gives_a_verdict_every_step_over_the_window(scorer):
    frames = itertools.cycle(face_frames(20))
    verdicts = list(itertools.islice(scorer.stream(frames, window=8, step=4, rate=25), 3))
    assert [v.clip for v in verdicts] == ["frames 0-3", "frames 0-7", "frames 4-11"]
    assert [v.n_frames for v in verdicts] == [4, 8, 8]
    assert [v.n_used for v in verdicts] == [4, 6, 6]  # the model reads six frames at most
    assert verdicts[2].ledger.time_s[-1] == pytest.approx(11 / 25)


def test_stream_without_a_face_says_so(scorer):
    (verdict,) = scorer.stream(plain_frames(4), window=4, step=4)
    assert verdict.status is ClipStatus.NO_FACE and verdict.emotion is None


def test_stream_over_a_whole_clip_is_the_verdict_on_all_its_frames(scorer, champion_workspace):
    frames = face_frames(6)
    (streamed,) = scorer.stream(frames, window=6, step=6)
    whole = scorer.score([*frames, *frames])  # of which the second half is read
    assert np.allclose(streamed.probabilities, whole.probabilities, atol=1e-6)


@pytest.mark.parametrize("settings", [{"window": 0}, {"step": 0}])
def test_stream_needs_a_window_and_a_step(scorer, settings):
    with pytest.raises(ConfigError, match="`window >= 1` and `step >= 1` must hold"):
        next(scorer.stream(face_frames(2), **settings))


def test_settings_reach_the_scorer(champion_workspace, film):
    few = Scorer.champion(workspace=champion_workspace, settings=ScoreConfig(max_frames=2, abstain_below=0.99))
    verdict = few.score(film)
    assert verdict.n_used == 2 and verdict.abstained


@pytest.mark.parametrize(
    ("model", "error", "sentence"),
    [
        (
            "face-emotion",
            ConfigError,
            "a model is named models:/NAME/VERSION or models:/NAME@ALIAS; got 'face-emotion'",
        ),
        ("models:/face-emotion/x", ConfigError, "a model is named"),
        ("models:/face emotion/1", ConfigError, "the name of the model: "),
        ("models:/face-emotion/9", RegistryError, "version 9 of 'face-emotion' is not there"),
        ("models:/face-emotion@nobody", RegistryError, "no version of 'face-emotion' has alias 'nobody'"),
    ],
)
def test_wrong_model_is_one_sentence(champion_workspace, model, error, sentence):
    with pytest.raises(error, match=sentence):
        Scorer(model, workspace=champion_workspace)


def test_decoding_process_stays_warm_and_is_replaced_after_a_bad_file(champion_workspace, film, tmp_path):
    def pids() -> set[int]:
        return {child.pid for child in decoders()} - others

    others: set[int] = set()
    others = pids()
    scorer = Scorer.champion(workspace=champion_workspace)
    scorer.score(film)
    warm = pids()
    scorer.score(film)
    assert pids() == warm and len(warm) == 1
    (tmp_path / "page.mp4").write_text("<html>")
    scorer.score(tmp_path / "page.mp4")
    deadline = time.monotonic() + 60
    while not (new := pids() - warm) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(new) == 1 and not pids() & warm  # started before anything asked for it
    assert scorer.score(film).emotion and pids() == new


def test_killed_decoding_process_costs_no_verdict(scorer, film):
    scorer.score(film)
    for child in decoders():
        child.kill()
        child.wait(10)
    assert scorer.score(film).status is ClipStatus.OK


def test_decoding_process_ends_with_its_parent(champion_workspace, film, tmp_path):
    code = (
        "import psutil, sys\nfrom ferflow import Scorer\n"
        "scorer = Scorer.champion(workspace=sys.argv[1])\nassert scorer.score(sys.argv[2]).emotion\n"
        "print([c.pid for c in psutil.Process().children() if any('sandbox' in w for w in c.cmdline())], flush=True)\n"
        "sys.stdin.read()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(champion_workspace), str(film)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().strip("[]\n").split(",")]
    assert pids and all(psutil.pid_exists(pid) for pid in pids)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=10)
    assert not alive


def test_colours_become_the_grey_that_opencv_makes():
    from fer_core.preprocess.arrays import gray_picture

    rgb = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)
    assert np.array_equal(gray_picture(rgb), cv2.cvtColor(rgb[..., ::-1].copy(), cv2.COLOR_BGR2GRAY))
