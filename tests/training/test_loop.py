"""fit: laws of the loop, on a small table with real heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import TrainConfig
from fer_core.errors import ConfigError, TrainingError
from fer_core.training import checkpoint
from fer_core.training.loop import fit
from tests.tables import drawn_table, equal_heads

CFG = TrainConfig(epochs=8, widths=(32,), patience=3)


@pytest.fixture
def table(tmp_path):
    return drawn_table(tmp_path)


def sides(table, stop_subjects=3):
    clips = np.arange(table.n_clips)
    on = np.isin(table.subjects, sorted(set(table.subjects))[:stop_subjects])
    return clips[~on], clips[on]


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad", "adadelta"])
def test_fitting_lowers_the_loss(table, optimizer):
    lr = {"adadelta": 1.0, "adagrad": 0.01}.get(optimizer, 1e-3)
    cfg = CFG.model_copy(update={"optimizer": optimizer, "stopping": "never", "lr": lr})
    losses = fit(table, *sides(table), cfg).history.column("loss")
    assert losses[-1] < losses[0]


def test_same_seed_same_weights_and_another_seed_others(table):
    a, b = fit(table, *sides(table), CFG), fit(table, *sides(table), CFG)
    assert equal_heads(a.head, b.head)
    other = fit(table, *sides(table), CFG.model_copy(update={"seed": 1}))
    assert not equal_heads(a.head, other.head)


def test_the_callers_random_state_is_left_alone(table):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit(table, *sides(table), CFG)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad", "adadelta"])
def test_78_a_fit_killed_after_any_epoch_ends_in_the_same_bytes(table, tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    cfg = CFG.model_copy(update={"optimizer": optimizer, "schedule": "cosine", "stopping": "never"})
    whole = fit(table, *sides(table), cfg)

    def die_after_three(epoch):
        if epoch.number == 4:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fit(table, *sides(table), cfg, checkpoint=tmp_path / "c", on_epoch=die_after_three)
    resumed = fit(table, *sides(table), cfg, checkpoint=tmp_path / "c")
    assert equal_heads(whole.head, resumed.head)
    assert resumed.history.column("loss") == whole.history.column("loss")
    assert not (tmp_path / "c").exists()  # gone when the fit ends


def test_a_damaged_checkpoint_is_reported_and_the_fit_starts_again(table, tmp_path, caplog):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "checkpoint.safetensors").write_bytes(b"half a file")
    result = fit(table, *sides(table), CFG, checkpoint=tmp_path / "c")
    assert "is damaged" in caplog.text
    assert equal_heads(result.head, fit(table, *sides(table), CFG).head)


def test_a_refit_runs_exactly_the_steps_asked_for(table):
    cfg = CFG.model_copy(update={"stopping": "never", "epochs": 50})
    assert fit(table, *sides(table), cfg, max_steps=23).steps == 23


def test_the_best_epochs_weights_are_restored(table):
    cfg = CFG.model_copy(update={"epochs": 40, "lr": 0.01})
    result = fit(table, *sides(table), cfg)
    assert result.best_epoch <= len(result.history)
    shorter = cfg.model_copy(update={"epochs": result.best_epoch, "stopping": "never"})
    assert equal_heads(result.head, fit(table, *sides(table), shorter).head)


def test_without_stopping_clips_all_epochs_run(table):
    result = fit(table, np.arange(table.n_clips), np.empty(0, int), CFG)
    assert len(result.history) == CFG.epochs
    assert np.isnan(result.history.column("validation_accuracy")).all()


def test_pretrained_layers_start_where_shapes_match(table):
    fc = [(torch.ones(32, table.n_features), torch.zeros(32)), (torch.ones(9, 9), torch.ones(9))]
    cfg = CFG.model_copy(update={"widths": (32, 16)})
    assert fit(table, *sides(table), cfg, fc=fc).pretrained == [0]
    assert fit(table, *sides(table), cfg.model_copy(update={"pretrained_fc": False}), fc=fc).pretrained == []


def test_88_a_diverging_fit_says_so(table):
    cfg = CFG.model_copy(update={"lr": 1.0, "optimizer": "sgd", "epochs": 60, "widths": (64, 64), "dropout": 0.0})
    features = table.features * 3000
    import dataclasses

    with pytest.raises(TrainingError, match=r"diverged; try a smaller train\.lr"):
        fit(dataclasses.replace(table, features=features.clamp(-60000, 60000)), *sides(table), cfg)


def test_64_a_class_without_training_frames_is_refused_by_name(table):
    kept = np.flatnonzero(table.labels != 2)
    with pytest.raises(TrainingError, match="no training frames of fear"):
        fit(table, kept, np.empty(0, int), CFG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_87_a_missing_gpu_is_never_replaced_in_silence(table):
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        fit(table, *sides(table), CFG.model_copy(update={"device": "cuda"}))
