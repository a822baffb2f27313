"""Augmented views and a fine-tuned last block: what they may touch, and that a fit stays reproducible."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fer_core.config import AugmentConfig, TrainConfig
from fer_core.errors import TrainingError
from fer_core.models.fc_head import HeadClassifier, fit_head
from fer_core.training import checkpoint
from tests.models.test_fc_head import sides
from tests.tables import drawn_table, equal_heads, small_block, with_maps, with_views

CFG = TrainConfig(epochs=5, widths=(16,), stopping="never")
VIEWS = CFG.model_copy(update={"augment": AugmentConfig(views=4)})
TUNED = CFG.model_copy(update={"transfer": "last_block", "block_lr": 1e-3})
BOTH = VIEWS.model_copy(update={"transfer": "last_block"})


@pytest.fixture
def plain(tmp_path):
    return drawn_table(tmp_path)


@pytest.fixture
def table(plain):
    """Four views of features and of maps."""
    return dataclasses.replace(with_maps(plain, 4), views=with_views(plain, 4).views)


def poisoned(tensors, rows):
    """Copies whose `rows` are NaN: whoever reads one cannot hide it."""
    copies = [t.clone() for t in tensors]
    for copy in copies:
        copy[rows] = torch.nan
    return tuple(copies)


@pytest.mark.parametrize("cfg", [VIEWS, BOTH], ids=["features", "maps"])
def test_augmentation_touches_the_training_side_only(table, cfg):
    """Views of clips that are stopped on, or held out, are never read, in any epoch; nor are views in evaluation."""
    clips = np.arange(table.n_clips)
    fit_clips, stop_clips, held_out = clips[24:], clips[12:24], clips[:12]
    not_trained = table.frames_of(np.concatenate([stop_clips, held_out]))
    broken = dataclasses.replace(
        table, views=poisoned(table.views, not_trained), maps=(table.maps[0], *poisoned(table.maps[1:], not_trained))
    )
    want = fit_head(table, fit_clips, stop_clips, cfg, block=small_block())
    got = fit_head(broken, fit_clips, stop_clips, cfg, block=small_block())
    assert got.history.column("validation_loss") == want.history.column("validation_loss")
    assert equal_heads(got.head, want.head)
    everything = np.arange(len(table.features))
    blind = dataclasses.replace(
        table, views=poisoned(table.views, everything), maps=(table.maps[0], *poisoned(table.maps[1:], everything))
    )
    a, b = (HeadClassifier(found.head, found.block) for found in (got, want))
    assert np.array_equal(a.frame_scores(blind, held_out), b.frame_scores(table, held_out))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_view_is_shown(table, place):
    views = list(table.views)
    [views[place]] = poisoned([views[place]], np.arange(len(table.features)))
    with pytest.raises(TrainingError, match="diverged"):
        fit_head(dataclasses.replace(table, views=tuple(views)), *sides(table), VIEWS)


def test_one_view_is_no_augmentation(table, plain):
    assert equal_heads(fit_head(table, *sides(table), CFG).head, fit_head(plain, *sides(table), CFG).head)
    assert not equal_heads(fit_head(table, *sides(table), VIEWS).head, fit_head(plain, *sides(table), CFG).head)


def test_fewer_views_read_the_first_ones(table, plain):
    two = CFG.model_copy(update={"augment": AugmentConfig(views=2)})
    assert equal_heads(
        fit_head(table, *sides(table), two).head, fit_head(with_views(plain, 2), *sides(table), two).head
    )


@pytest.mark.parametrize(
    ("cfg", "says"),
    [(VIEWS, "views is 4, but the table holds 1"), (TUNED, "no maps to fine-tune a block on")],
    ids=["views", "maps"],
)
def test_a_table_of_another_setting_is_refused(plain, cfg, says):
    with pytest.raises(TrainingError, match=says):
        fit_head(plain, *sides(plain), cfg, block=small_block())


def test_fine_tuning_trains_the_block_but_neither_its_statistics_nor_the_callers_copy(table):
    block = small_block()
    before = {k: v.clone() for k, v in block.state_dict().items()}
    result = fit_head(table, *sides(table), TUNED, block=block)
    after = result.block.state_dict()
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())
    for name, value in after.items():
        assert torch.equal(value, before[name]) == ("running" in name or "num_batches" in name), name
    assert not any(p.requires_grad for p in result.block.parameters())
    assert result.n_weights == result.head.n_weights + sum(v.numel() for v in block.parameters())
    assert result.history.column("loss")[-1] < result.history.column("loss")[0]


def test_frozen_features_leave_no_block(table):
    result = fit_head(table, *sides(table), CFG, block=small_block())
    assert result.block is None and result.n_weights == result.head.n_weights


def test_the_block_has_a_learning_rate_of_its_own_that_the_schedule_moves_too(table):
    sgd = TUNED.model_copy(update={"optimizer": "sgd", "momentum": 0.0, "lr": 0.05})
    still = fit_head(table, *sides(table), sgd.model_copy(update={"block_lr": 1e-30}), block=small_block())
    assert equal_heads(still.block, small_block())
    stepped = sgd.model_copy(update={"schedule": "step", "step_epochs": 1, "step_gamma": 1e-20})
    one = fit_head(table, *sides(table), stepped.model_copy(update={"epochs": 1}), block=small_block())
    assert equal_heads(fit_head(table, *sides(table), stepped, block=small_block()).block, one.block)
    assert not equal_heads(one.block, small_block())


@pytest.mark.parametrize("cfg", [VIEWS, TUNED, BOTH], ids=["views", "last-block", "both"])
@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_78_a_killed_fit_of_views_or_block_ends_in_the_same_bytes(table, tmp_path, monkeypatch, cfg, optimizer):
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    cfg = cfg.model_copy(update={"schedule": "cosine", "optimizer": optimizer})
    whole = fit_head(table, *sides(table), cfg, block=small_block())

    def die_after_two(epoch):
        if epoch.number == 3:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        fit_head(table, *sides(table), cfg, block=small_block(), checkpoint=tmp_path / "c", on_epoch=die_after_two)
    resumed = fit_head(table, *sides(table), cfg, block=small_block(), checkpoint=tmp_path / "c")
    assert equal_heads(whole.head, resumed.head)
    assert whole.block is None or equal_heads(whole.block, resumed.block)
    assert resumed.history.column("loss") == whole.history.column("loss")


def test_the_best_epochs_block_is_restored_with_its_head(table):
    cfg = TUNED.model_copy(update={"stopping": "patience", "patience": 3, "epochs": 30, "lr": 0.01})
    result = fit_head(table, *sides(table), cfg, block=small_block())
    shorter = cfg.model_copy(update={"epochs": result.best_epoch, "stopping": "never"})
    again = fit_head(table, *sides(table), shorter, block=small_block())
    assert equal_heads(result.head, again.head) and equal_heads(result.block, again.block)
