"""The commands of the tour, run in their order, in an empty folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.test_docs import ROOT, commands


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_tour_lead_to_a_scored_folder(ferflow, tmp_path, monkeypatch):
    """`ferflow up` runs for ever; the tests of the servers start it."""
    monkeypatch.setenv("FERFLOW_WORKSPACE", str(tmp_path / "workspace"))
    trial = ""
    for words in commands(ROOT / "docs" / "tour.md"):
        if words == ["up"]:
            continue
        given = [trial if word == "DIR" else word for word in words]
        done = subprocess.run([ferflow, *given, "--json"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"ferflow {' '.join(given)}\n{done.stdout}\n{done.stderr}"
        if words[0] == "search":
            trial = json.loads(done.stdout)["trial"]
    assert Path(trial).is_dir()
    verdicts = pd.read_csv(tmp_path / "verdicts" / "verdicts.csv")
    assert len(verdicts) == 24 and verdicts["status"].eq("ok").all()
