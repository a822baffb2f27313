"""fit: laws of the loop, on a small table with real heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fer_core.config import TrainConfig
from fer_core.errors import ConfigError, TrainingError
from fer_core.models.fc_head import fit_head
from fer_core.training import checkpoint
from fer_core.training.fit_epochs import Length, build_loss, build_optimizer, lr_factor
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
    losses = fit_head(table, *sides(table), cfg).history.column("loss")
    assert losses[-1] < losses[0]


def test_same_seed_same_weights_and_another_seed_others(table):
    a, b = fit_head(table, *sides(table), CFG), fit_head(table, *sides(table), CFG)
    assert equal_heads(a.head, b.head)
    other = fit_head(table, *sides(table), CFG.model_copy(update={"seed": 1}))
    assert not equal_heads(a.head, other.head)


def test_the_callers_random_state_is_left_alone(table):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    fit_head(table, *sides(table), CFG)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adagrad", "adadelta"])
def test_78_a_fit_killed_after_any_epoch_ends_in_the_same_bytes(table, tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    cfg = CFG.model_copy(update={"optimizer": optimizer, "schedule": "cosine", "stopping": "never"})
    whole = fit_head(table, *sides(table), cfg)

    def die_after_three(epoch):
        if epoch.number == 4:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fit_head(table, *sides(table), cfg, checkpoint=tmp_path / "c", on_epoch=die_after_three)
    resumed = fit_head(table, *sides(table), cfg, checkpoint=tmp_path / "c")
    assert equal_heads(whole.head, resumed.head)
    assert resumed.history.column("loss") == whole.history.column("loss")
    assert not (tmp_path / "c").exists()  # gone when the fit ends


def test_a_damaged_checkpoint_is_reported_and_the_fit_starts_again(table, tmp_path, caplog):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "checkpoint.safetensors").write_bytes(b"half a file")
    result = fit_head(table, *sides(table), CFG, checkpoint=tmp_path / "c")
    assert "is damaged" in caplog.text
    assert equal_heads(result.head, fit_head(table, *sides(table), CFG).head)


def test_a_refit_runs_exactly_the_steps_asked_for(table):
    cfg = CFG.model_copy(update={"stopping": "never", "epochs": 50})
    assert fit_head(table, *sides(table), cfg, length=Length(23, 23)).steps == 23


def test_72_a_batch_larger_than_the_data_is_one_step_an_epoch(table):
    cfg = CFG.model_copy(update={"batch_size": 4096, "stopping": "never"})
    result = fit_head(table, *sides(table), cfg, length=Length(5, 5))
    losses = result.history.column("loss")
    assert result.steps == len(losses) == 5 and losses[-1] < losses[0]


def test_the_best_epochs_weights_are_restored(table):
    cfg = CFG.model_copy(update={"epochs": 40, "lr": 0.01})
    result = fit_head(table, *sides(table), cfg)
    assert result.best_epoch <= len(result.history)
    shorter = cfg.model_copy(update={"epochs": result.best_epoch, "stopping": "never"})
    assert equal_heads(result.head, fit_head(table, *sides(table), shorter).head)


def test_without_stopping_clips_all_epochs_run(table):
    result = fit_head(table, np.arange(table.n_clips), np.empty(0, int), CFG)
    assert len(result.history) == CFG.epochs
    assert np.isnan(result.history.column("validation_accuracy")).all()


def test_pretrained_layers_start_where_shapes_match(table):
    fc = [(torch.rand(32, table.n_features), torch.rand(32)), (torch.ones(9, 9), torch.ones(9))]
    still = CFG.model_copy(update={"widths": (32, 16), "lr": 1e-12, "epochs": 1})
    found, alone, plain = (
        fit_head(table, *sides(table), cfg, fc=layers)
        for cfg, layers in ((still, fc), (still.model_copy(update={"pretrained_fc": False}), fc), (still, ()))
    )
    assert (found.pretrained, alone.pretrained) == ([0], []) and equal_heads(alone.head, plain.head)
    first, *others = found.head.linears
    assert torch.allclose(first.weight, fc[0][0], atol=1e-9) and torch.allclose(first.bias, fc[0][1], atol=1e-9)
    for layer, same in zip(others, plain.head.linears[1:], strict=True):
        assert torch.allclose(layer.weight, same.weight, atol=1e-9), "the others begin as they would without"


def test_88_a_diverging_fit_says_so(table):
    cfg = CFG.model_copy(update={"lr": 1.0, "optimizer": "sgd", "epochs": 60, "widths": (64, 64), "dropout": 0.0})
    features = table.features * 3000
    import dataclasses

    with pytest.raises(TrainingError, match=r"diverged; try a smaller train\.lr"):
        fit_head(dataclasses.replace(table, features=features.clamp(-60000, 60000)), *sides(table), cfg)


def test_64_a_class_without_training_frames_is_refused_by_name(table):
    kept = np.flatnonzero(table.labels != 2)
    with pytest.raises(TrainingError, match="no training frames of fear"):
        fit_head(table, kept, np.empty(0, int), CFG)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_87_a_missing_gpu_is_never_replaced_in_silence(table):
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        fit_head(table, *sides(table), CFG.model_copy(update={"device": "cuda"}))


def test_the_loss_is_its_formula():
    rng, smoothing = np.random.default_rng(0), 0.1
    logits, labels, weights = rng.normal(size=(20, 6)), rng.integers(0, 6, 20), rng.uniform(0.5, 2, 6)
    log_scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = log_scores[np.arange(20), labels]
    smooth = (log_scores * weights).sum(axis=1) * smoothing / 6
    for epsilon, losses in (
        (0.0, -weights[labels] * own),
        (smoothing, -(1 - smoothing) * weights[labels] * own - smooth),
    ):
        loss_fn = build_loss(weights, CFG.model_copy(update={"label_smoothing": epsilon}))
        got = loss_fn(torch.tensor(logits, dtype=torch.float32), torch.tensor(labels))
        assert float(got) == pytest.approx(losses.sum() / weights[labels].sum(), rel=1e-5)


def hand_written(optimizer, theta, gradients, lr, decay):
    """The formulas of `build_optimizer`'s docstring, step by step."""
    v = s = u = m = np.zeros_like(theta)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient + decay * theta
        if optimizer == "sgd":
            v = 0.9 * v + g
            theta = theta - lr * v
        elif optimizer == "nesterov":
            v = 0.9 * v + g
            theta = theta - lr * (g + 0.9 * v)
        elif optimizer == "adagrad":
            s = s + g**2
            theta = theta - lr * g / (np.sqrt(s) + 1e-10)
        elif optimizer == "adadelta":
            s = 0.9 * s + 0.1 * g**2
            delta = g * np.sqrt(u + 1e-6) / np.sqrt(s + 1e-6)
            u = 0.9 * u + 0.1 * delta**2
            theta = theta - lr * delta
        else:
            m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
            theta = theta - lr * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
    return theta


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nesterov", "adagrad", "adadelta"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_an_optimiser_is_its_formula(optimizer, decay):
    rng = np.random.default_rng(1)
    theta, gradients = rng.normal(size=8), rng.normal(size=(5, 8))
    layer = torch.nn.Linear(8, 1, bias=False)
    layer.weight.data = torch.tensor(theta[None], dtype=torch.float32)
    cfg = CFG.model_copy(
        update={"lr": 0.05, "weight_decay": decay, "nesterov": optimizer == "nesterov",
                "optimizer": "sgd" if optimizer == "nesterov" else optimizer}
    )  # fmt: skip
    built = build_optimizer(layer, cfg)
    for gradient in gradients:
        layer.weight.grad = torch.tensor(gradient[None], dtype=torch.float32)
        built.step()
    want = hand_written(optimizer, theta, gradients, cfg.lr, decay)
    assert layer.weight.detach().numpy()[0] == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_schedules_are_their_formulas():
    step = CFG.model_copy(update={"schedule": "step", "step_epochs": 60, "step_gamma": 0.2})
    assert [lr_factor(step, e) for e in (1, 60, 61, 121)] == pytest.approx([1, 1, 0.2, 0.04])
    cosine = CFG.model_copy(update={"schedule": "cosine", "epochs": 10})
    assert [lr_factor(cosine, e) for e in (1, 6, 11)] == pytest.approx([1, 0.5, 0])
    assert lr_factor(CFG, 7) == 1


def test_a_refits_schedule_stands_where_the_folds_stood_after_as_many_steps(table):
    cfg = CFG.model_copy(update={"schedule": "cosine", "epochs": 8, "stopping": "never", "batch_size": 16})
    fold = fit_head(table, *sides(table), cfg)
    every = np.arange(table.n_clips)
    per_epoch = fold.steps / fold.best_epoch
    whole = fit_head(table, every, every[:0], cfg, length=Length(fold.steps, per_epoch))
    own = len(table.frames_of(every)) // 16  # steps of the refit's longer epochs
    assert len(whole.history) < len(fold.history)
    expected = [cfg.lr * lr_factor(cfg, 1 + own * epoch / per_epoch) for epoch in range(len(whole.history))]
    assert whole.history.column("lr") == pytest.approx(expected)


def test_a_schedule_sets_the_rate_of_every_epoch(table):
    cfg = CFG.model_copy(update={"schedule": "step", "step_epochs": 2, "step_gamma": 0.5, "stopping": "never"})
    rates = fit_head(table, *sides(table), cfg).history.column("lr")
    assert rates == pytest.approx([cfg.lr * 0.5 ** (e // 2) for e in range(8)])
