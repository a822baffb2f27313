"""Networks as published, as rows of a comparison and of its external validation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_core.config import RunConfig, TrainConfig
from fer_core.evaluation.metrics import evaluate, paired_difference
from fer_core.experiments.adoption import AdoptedEvaluation
from fer_core.experiments.comparison import compare
from fer_core.experiments.external_validation import ExternalValidation
from fer_core.experiments.untrained import NO_TRAINING, Untrained, networks_here, with_untrained
from fer_core.features.known_weights import KNOWN
from fer_core.models.registry import models_of
from fer_core.reports.comparison import comparison_json, comparison_markdown, comparison_page
from tests.experiments.test_comparison import HOW, TRAIN


@pytest.fixture(scope="module")
def compared(drawn):
    return compare(models_of(["head-mean", "lbp-svm"], TRAIN), drawn, **HOW)


def evaluated(table, right: float) -> AdoptedEvaluation:
    """Frame scores of which a share of the clips is right."""
    rng = np.random.default_rng(1)
    said = np.where(rng.random(table.n_clips) < right, table.labels, (table.labels + 1) % 6)
    scores = np.repeat(np.eye(6)[said] * 0.9 + 0.1 / 6, table.lengths, axis=0)
    return AdoptedEvaluation(table, "f", scores, evaluate(said, table.labels, table.subjects, table.classes), 1.5)


def without(table, clip: int):
    """The table without one clip; its frames are the last."""
    assert clip == table.n_clips - 1
    return dataclasses.replace(
        table, features=table.features[: table.offsets[-2]], offsets=table.offsets[:-1], labels=table.labels[:-1],
        clip_ids=table.clip_ids[:-1], subjects=table.subjects[:-1], datasets=table.datasets[:-1], described={},
    )  # fmt: skip


def test_a_network_is_a_row_without_training_compared_on_the_clips_that_both_predicted(drawn, compared):
    network = Untrained("fer2013", evaluated(without(drawn, drawn.n_clips - 1), 0.6))
    found, _ = with_untrained(compared, [network], drawn.clip_ids, None)
    assert [entry.name for entry in found.entries] == ["head-mean", "lbp-svm", "fer2013"]
    row = found.entries[-1]
    assert not row.trained and (row.n_parameters, row.histories, row.ms_per_clip) == (0, (), 1.5)
    first = compared.entries[0].scores.argmax(axis=1)[:-1]
    labels, people = drawn.labels[:-1], drawn.subjects[:-1]
    assert row.difference == paired_difference(row.scores.argmax(axis=1), first, labels, people, 6)
    assert row.evaluation.n_clips == drawn.n_clips - 1
    cells = comparison_json(found)["rows"][-1]
    assert (cells["model"], cells["s to train"], cells["parameters"]) == ("fer2013", NO_TRAINING, "0")
    for page in (comparison_markdown(found), comparison_page(found, data="d", backbone="b")):
        assert NO_TRAINING in page and "Nothing of fer2013 was trained" in page
    assert "was trained" not in comparison_markdown(compared)


def test_it_judges_the_other_people_too(drawn, compared):
    grouped = dataclasses.replace(drawn, groups={"age": ("old", "young") * (drawn.n_clips // 2)})
    network = Untrained("face-api", evaluated(drawn, 0.6), evaluated(grouped, 0.9))
    told = ExternalValidation("others", ("anger",), {}, {}, True)
    _, external = with_untrained(compared, [network], drawn.clip_ids, told)
    assert external.results["face-api"].evaluation.mean_recall.value > 0.8
    assert set(external.results["face-api"].groups["age"]) == {"old", "young"}


def test_only_networks_that_are_here_and_predict_these_classes_are_shown(monkeypatch, tmp_path):
    assert networks_here(RunConfig(classes=("pain", "no_pain"))) == ()
    monkeypatch.setenv("FERFLOW_WEIGHTS", str(tmp_path))
    assert networks_here(RunConfig()) == ()
    (tmp_path / KNOWN["fer2013"].kept).write_bytes(b"damaged")
    assert networks_here(RunConfig(train=TrainConfig())) == ()
