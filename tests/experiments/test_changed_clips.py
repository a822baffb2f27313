"""Verdicts of compared models on changed clips: held against those of the same fit, gone where there is no face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_core.config import TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.experiments.adoption import AdoptedEvaluation
from fer_core.experiments.changed_clips import stays_out_of_fold, stays_untrained
from fer_core.experiments.comparison import compare
from fer_core.models.registry import models_of
from fer_core.reports.comparison import comparison_json, comparison_markdown, comparison_page
from fer_core.store import EntryStore

HOW = {"folds": 3, "seed": 0, "fit_seed": 0, "inner_share": 0.2}


def part(table: FeatureTable, clips: list[int]) -> FeatureTable:
    """Some clips of a table, in this order."""
    rows = np.concatenate([np.arange(table.offsets[c], table.offsets[c + 1]) for c in clips])
    return replace(
        table,
        key=f"{table.key}-part",
        features=table.features[rows],
        offsets=np.concatenate([[0], np.cumsum(np.diff(table.offsets)[clips])]),
        labels=table.labels[clips],
        clip_ids=tuple(table.clip_ids[c] for c in clips),
        subjects=tuple(table.subjects[c] for c in clips),
        datasets=tuple(table.datasets[c] for c in clips),
        groups={},
        described={name: values[clips] for name, values in table.described.items()},
        part_keys={name: f"{key} of {clips}" for name, key in table.part_keys.items()},
        views=(),
        maps=(),
    )


def test_an_unchanged_clip_keeps_its_verdict_and_a_clip_without_a_face_loses_it(drawn, tmp_path):
    models = models_of(["head-mean", "lbp-svm"], TrainConfig(widths=(), epochs=3, batch_size=30))
    store = EntryStore(tmp_path, "comparisons")
    found = compare(models, drawn, **HOW, store=store)
    kept = list(range(0, drawn.n_clips, 2))[::-1]
    blank = replace(
        drawn, key="blank", features=drawn.features * 0, part_keys={n: f"{k}0" for n, k in drawn.part_keys.items()}
    )
    changed = {"moved": drawn, "mirror": part(drawn, kept), "turned": None, "darker": blank}
    stays = stays_out_of_fold(models, drawn, changed, **HOW, store=store)
    n_classes = len({row.argmax() for row in found.entries[0].scores})
    for name in ("head-mean", "lbp-svm"):
        shares = {change: share.value for change, share in stays[name].items()}
        assert shares["moved"] == 1 and shares["turned"] == 0 and shares["mirror"] == pytest.approx(0.5), name
    assert n_classes > 1 and stays["head-mean"]["darker"].value < 1 and stays["lbp-svm"]["darker"].value == 1
    before = sorted(tmp_path.rglob("*.safetensors"))
    assert stays_out_of_fold(models, drawn, changed, **HOW, store=store) == stays
    assert sorted(tmp_path.rglob("*.safetensors")) == before, "stored results are read"

    shown = replace(found, stays=stays)
    assert "| head-mean | 100 | 50 | 0 |" in comparison_markdown(shown)
    assert "Would the verdict survive?" in comparison_page(shown, data="x" * 12, backbone="b")
    assert comparison_json(shown)["stays"]["models"]["lbp-svm"]["turned"] == [0, 0, 0]
    assert "survive" not in comparison_markdown(found) and comparison_json(found)["stays"] is None


def test_a_network_without_training_is_held_against_its_own_verdicts(drawn):
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(6), len(drawn.features))
    before = AdoptedEvaluation(drawn, "", scores, None, 0.0)
    stays = stays_untrained(before, {"mirror": before, "turned": None})
    assert stays["mirror"].value == 1 and stays["turned"].value == 0
