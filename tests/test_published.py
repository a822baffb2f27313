from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.config import load_config
from fer_core.emotions import SIX
from fer_core.experiments.search.space import THESIS_SETTINGS
from fer_core.published import IMPLEMENTATIONS, MEAN, TABLE_3_2, TABLE_4_1, TABLE_4_2, VOTE


def test_the_tables_add_up_as_the_thesis_says():
    assert sum(TABLE_4_2) == 10645
    assert {side: sum(row) for side, row in TABLE_3_2.items()} == {"train": 631, "test": 202, "validation": 21}


@pytest.mark.parametrize("one", IMPLEMENTATIONS, ids=lambda one: one.preset)
def test_every_implementation_has_its_packaged_settings(one):
    config = load_config(Path(one.preset))
    train = config.train
    assert {name: getattr(train, name) for name in TABLE_4_1} == TABLE_4_1
    assert train.widths[0] == 4096 and (train.widths[1] < 4096) == ("narrowed" in one.network)
    assert (train.class_weights != "none") == ("weighted" in one.loss)
    assert (train.epochs, train.stopping) == (one.epochs, "thesis")
    assert (config.backbone.name, config.split.scheme) == ("vgg16", "thesis")


def test_both_contradictory_settings_are_packaged():
    assert THESIS_SETTINGS["table-4.1"].items() <= TABLE_4_1.items()
    assert THESIS_SETTINGS["section-4.2.2"] == {"lr": 0.001, "batch_size": 30}


def test_its_claims_follow_from_its_numbers():
    """Mean beats vote everywhere, narrowing and weighting help, and fear is the weakest class it names."""
    by = {one.number: one for one in IMPLEMENTATIONS}
    assert all(one.average[MEAN] > one.average[VOTE] for one in IMPLEMENTATIONS)
    assert all(by[a].average[MEAN] > by[b].average[MEAN] for a, b in ((2, 1), (4, 3), (3, 1), (4, 2)))
    named = [(e, value) for one in IMPLEMENTATIONS for e, by_rule in one.recall.items() for value in by_rule.values()]
    assert min(named, key=lambda pair: pair[1])[0] == "fear" and {e for e, _ in named} <= set(SIX)
