"""Networks over clips are fitted by the loop of all networks: a fit that was killed ends in the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import TrainConfig
from fer_core.models.base import Fits, FitSplit
from fer_core.models.registry import model_of
from fer_core.training import checkpoint

FIT, STOP = np.arange(42), np.arange(42, 54)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["fan-self", "fan-relation", "lstm", "c3d"])
def test_78_a_network_killed_after_an_epoch_ends_in_the_same_bytes(drawn, tmp_path, monkeypatch, name):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    model = model_of(TrainConfig(epochs=3).with_model(name, epochs=3, stopping="never"))
    side = FitSplit(FIT, STOP, 5)

    def die_in_the_third(epoch):
        if epoch.number == 3:
            raise Killed
        return False

    whole = Fits(drawn).fitted(model, side)
    with pytest.raises(Killed):
        Fits(drawn, checkpoint=tmp_path, on_epoch=die_in_the_third).fitted(model, side)
    assert list(tmp_path.rglob("*.safetensors"))
    resumed = Fits(drawn, checkpoint=tmp_path).fitted(model, side)
    assert [e.number for e in resumed.history.epochs] == [1, 2, 3]
    assert resumed.history.column("loss") == whole.history.column("loss")
    assert resumed.best_epoch == whole.best_epoch and not list(tmp_path.rglob("*.safetensors"))
    expected = whole.classifier.to_tensors()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.classifier.to_tensors().items())
