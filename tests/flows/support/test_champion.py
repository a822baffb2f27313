"""The champion, ready to score."""

from __future__ import annotations

import pytest
import torch

from fer_core.config import RunConfig, ScoreConfig
from fer_core.errors import ConfigError
from flows.support import champion


def test_gpu_that_is_asked_for_and_missing_is_told_before_mlflow_is_asked(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    config = RunConfig(workspace=str(tmp_path), score=ScoreConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"score\.device is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'"):
        champion.champion_scorer(config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_champion_is_loaded_on_the_gpu_when_there_is_one(tmp_path, monkeypatch, gpu, device):
    asked = []

    class Loaded(Exception):
        pass

    def load(tracking, device):
        asked.append(device.type)
        raise Loaded

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(champion, "connect", lambda *_: None)
    monkeypatch.setattr(champion, "load_champion", load)
    with pytest.raises(Loaded):
        champion.champion_scorer(RunConfig(workspace=str(tmp_path)))
    assert asked == [device]
