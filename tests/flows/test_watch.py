from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.flows.test_cli import run
from tests.preprocess.films import face_frames, write_video

QUICK = ("--set", "watch.settle_s=0.2", "--set", "limits.workers=1")


@pytest.fixture
def incoming(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    write_video(folder / "a.mp4", face_frames(4))
    return folder


def test_watch_scores_once_and_records_a_run(champion_workspace, incoming):
    words = ("watch", incoming, "--once", "--workspace", champion_workspace, *QUICK)
    first = json.loads(run(*words, "--json").stdout)
    assert (first["clips"], first["still_being_written"]) == (1, 0)
    done = run(*words)
    assert done.exit_code == 0 and "nothing new; none still being written" in done.stdout
    page = Path(first["page"])
    assert page.is_file() and page.is_relative_to(champion_workspace / "watched")
    assert len(pd.read_parquet(page.parent / "verdicts.parquet")) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    done = run("watch", tmp_path / "nowhere", "--workspace", tmp_path / "w")
    assert done.exit_code == 1 and "there is no folder" in done.stderr and "nowhere" in done.stderr
    done = run("up", "--set", f"watch.folder={tmp_path / 'nowhere'}", "--workspace", tmp_path / "w")
    assert done.exit_code == 1 and "there is no folder" in done.stderr


def test_the_flow_scores_and_tells_its_page(prefect_server, champion_workspace, incoming):
    from fer_core.config import RunConfig
    from flows.watch import watch_flow

    config = RunConfig.model_validate(
        {
            "workspace": str(champion_workspace),
            "watch": {"folder": str(incoming), "settle_s": 0.2},
            "limits": {"workers": 1},
        }
    )
    assert [watch_flow(config=config)["clips"] for _ in range(2)] == [1, 0]


@pytest.mark.slow
def test_a_killed_watch_goes_on_and_no_clip_has_two_rows(ferflow, champion_workspace, incoming):
    for n in range(12):
        write_video(incoming / f"{n}.mp4", face_frames(5 + n))
    command = [ferflow, "watch", str(incoming), "--workspace", str(champion_workspace), *QUICK]
    command += ["--set", "watch.every_s=5"]
    for seconds in (9, 12):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(seconds)
            process.kill()
        shutil.move(incoming / "3.mp4", incoming / f"moved-{seconds}.mp4")
        shutil.copy(incoming / f"moved-{seconds}.mp4", incoming / "3.mp4")
    write_video(incoming / "late.mp4", face_frames(20))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        page = None
        for line in process.stdout:
            page = line.split()[-1] if "webbrowser" in line else page
            if page and (rows := pd.read_parquet(Path(page).parent / "verdicts.parquet"))["frames_total"].max() == 20:
                process.send_signal(signal.SIGTERM)
                break
    assert process.returncode == 143
    assert sorted(rows["frames_total"]) == [4, *range(5, 17), 20]
    assert rows["clip_digest"].is_unique
