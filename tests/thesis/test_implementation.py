"""A thesis implementation from settings to exam, with lite0 in place of VGG16."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fer_core.clips.clip import Split
from fer_core.config import PreprocessConfig, RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.dataset.training_table import training_table
from fer_core.emotions import SIX
from fer_core.errors import ConfigError
from fer_core.evaluation.metrics import RULES, evaluate
from fer_core.thesis.implementation import SETTINGS, configure, reproduction_of, run_implementation
from fer_core.thesis.page import reproduction_html
from fer_core.workspace import Workspace
from tests.datasets import stored_corpus
from tests.executors import InProcess
from tests.saved_models import lite0
from tests.thesis.test_holdout_fit import Refusing

SMALL = ("backbone.name=efficientnet-lite0", "train.epochs=3")


def test_settings_are_the_packaged_ones_then_the_setting_then_the_users():
    base = RunConfig(workspace="here", preprocess=PreprocessConfig(max_frames=4))
    one = configure(1, base)
    assert (one.train.lr, one.train.batch_size, one.train.widths) == (0.005, 20, (4096, 4096))
    assert (one.workspace, one.preprocess.max_frames, one.split.scheme) == ("here", 4, "thesis")
    text = configure(4, base, "section-4.2.2", fixed_epochs=True, shrink=16)
    assert (text.train.lr, text.train.batch_size, text.train.widths) == (0.001, 30, (256, 64))
    assert (text.train.stopping, text.train.epochs) == ("never", 180)
    mine = configure(4, base, "section-4.2.2", overrides=("train.lr=0.01", *SMALL))
    assert (mine.train.lr, mine.train.batch_size, mine.train.epochs) == (0.01, 30, 3)
    assert mine.backbone.name == "efficientnet-lite0"


@pytest.mark.parametrize(("number", "setting", "shrink"), [(5, SETTINGS[0], 1), (1, "table-9", 1), (1, SETTINGS[0], 0)])
def test_what_the_thesis_does_not_have_is_refused(number, setting, shrink):
    with pytest.raises(ConfigError, match="implementations 1 to 4 and settings table-4"):
        configure(number, RunConfig(), setting, shrink=shrink)


def test_convolutions_stay_frozen():
    with pytest.raises(ConfigError, match="trains FC layers only"):
        configure(1, RunConfig(), overrides=("train.transfer=last_block",))


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    workspace = Workspace.open(str(tmp_path_factory.mktemp("implementation")))
    dataset = Dataset.of(*stored_corpus(workspace))
    cfg = configure(2, RunConfig(workspace=str(workspace.root)), shrink=256, overrides=SMALL)
    table = training_table(dataset, lite0(), cfg.preprocess, workspace)
    arguments = (2, cfg, table, dataset, lite0(), workspace)
    return arguments, *run_implementation(*arguments, InProcess())


def test_it_is_fitted_on_its_side_and_tested_once_on_everybody_else(carried):
    (_, cfg, table, dataset, *_), outcome, bundle = carried
    assert outcome.tested and (outcome.opening, outcome.openings) == (1, 1) and set(outcome.tests) == set(RULES)
    assert cfg.train.widths == (16, 4) and outcome.n_weights < 30_000 and len(outcome.history) == 3
    test = dataset.manifest.of(Split.TEST).clips
    labels = np.array([SIX.index(c.emotion) for c in test])
    again = evaluate(outcome.verdicts["mean_scores"], labels, [c.subject for c in test])
    assert again.to_json() == outcome.tests["mean_scores"].to_json()
    assert bundle.facts.synthetic and len(bundle.facts.subjects) == 2 * len(set(table.subjects)) == 8


def test_done_again_it_is_read_back_and_no_second_look_is_taken(carried):
    arguments, outcome, bundle = carried
    again, same = run_implementation(*arguments, Refusing())
    assert (again.opening, again.openings) == (1, 1) and same.hashes == bundle.hashes
    assert all(np.array_equal(again.verdicts[r], outcome.verdicts[r]) for r in RULES)
    heads = list((arguments[-1].root / "implementations").glob("*/head.safetensors"))
    assert not heads  # the model holds it


def test_the_page_knows_its_data(carried):
    (_, cfg, table, dataset, backbone, _), outcome, _ = carried
    found = reproduction_of(
        [outcome], cfg, table, dataset, backbone, setting=SETTINGS[0], fixed_epochs=False, shrink=256,
        own_split=True,
    )  # fmt: skip
    assert found.data.clips == {Split.TRAIN: (3,) * 6, Split.VALIDATION: (1,) * 6, Split.TEST: (1,) * 6}
    assert found.data.frames == (6,) * 6 and found.data.people[Split.TRAIN] == 3
    assert found.labels.tolist() == list(range(len(SIX))) and found.normalization == "imagenet"
    assert "efficientnet-lite0 in place of VGG16, FC widths divided by 256" in reproduction_html(found)
    assert found.changed == ()
    other = replace(outcome, train=cfg.train.model_copy(update={"lr": 0.5, "seed": 9}))
    told = reproduction_of(
        [outcome, other], cfg, table, dataset, backbone, setting=SETTINGS[0], fixed_epochs=False, shrink=256,
        own_split=True,
    )  # fmt: skip
    assert told.changed == ("lr",) and "another train.lr" in reproduction_html(told)
