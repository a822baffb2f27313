from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.config import TrainConfig
from fer_core.dataset.table import build_table
from fer_core.emotions import SEVEN, SIX, Emotion
from fer_core.errors import DataError
from fer_core.evaluation.metrics import RULES, evaluate
from fer_core.experiments.cross_database import cells_of, cross_database, several
from fer_core.features.store import FeatureStore
from fer_core.reports.cross_database_plot import cross_database_figure
from fer_core.reports.plots import figure_png
from tests.executors import InProcess
from tests.models.spy import Spy

TRAIN = TrainConfig(epochs=8, widths=(), lr=0.01, patience=4)
FOUR = (Emotion.DISGUST, Emotion.HAPPINESS, Emotion.SADNESS, Emotion.SURPRISE)  # what ISED has


def table_of(tmp_path, databases: dict[str, tuple], shared_subject: bool = False, classes=SIX):
    """Ten people a database, one clip of each of its emotions; every database shows each emotion its own way."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(classes), 32))
    clips, features = [], []
    for name, emotions in databases.items():
        shift = rng.normal(scale=0.9, size=(len(classes), 32))
        for s in range(10):
            subject = "somebody" if shared_subject and s == 0 else f"{name}:s{s}"
            for emotion in emotions:
                ident = f"{name}/s{s}_{emotion}"
                clips.append(Clip(ident, tmp_path / f"{ident}.mp4", subject, emotion, name))
                noise = rng.normal(scale=2.6, size=(3, 32))
                features.append(
                    (centres[classes.index(emotion)] + shift[classes.index(emotion)] + noise).astype(np.float16)
                )
    store = FeatureStore(tmp_path / "store")
    keys = [f"{i:032x}" for i in range(len(clips))]
    table = build_table(clips, features, keys, store, {"fingerprint": "0" * 32}, classes)
    return table, store.tables.path(table.key)


def matrix(table, path, folds=3):
    return cross_database(table, path, TRAIN, InProcess(), folds=folds, seed=0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    table, path = table_of(tmp_path_factory.mktemp("cross"), {"a-synthetic": SIX, "b": SIX, "c": FOUR})
    return table, matrix(table, path)


def test_every_pair_has_a_cell_and_every_clip_of_it_is_judged_once(found):
    table, made = found
    assert made.names == ("a-synthetic", "b", "c") and len(made.cells) == 9
    for (source, target), cell in made.cells.items():
        known = [c for c, d in zip(table.clip_ids, table.datasets, strict=True) if d == target]
        if source == "c":
            known = [c for c in known if c.rpartition("_")[2] in FOUR]
        assert sorted(cell.clips) == sorted(known) and set(cell.evaluations) == set(RULES)
        assert cell.evaluations["mean_scores"].n_clips == len(known)


def test_at_home_is_better_than_elsewhere_and_both_than_chance(found):
    _, made = found
    home, away = made.cells["b", "b"], made.cells["b", "a-synthetic"]
    assert away.evaluations["mean_scores"].mean_recall.low > 1 / 6
    assert home.evaluations["mean_scores"].mean_recall.value > away.evaluations["mean_scores"].mean_recall.value


def test_a_database_without_a_class_is_judged_on_those_it_has(found):
    table, made = found
    cell = made.cells["c", "b"]
    assert cell.classes == FOUR and cell.evaluations["mean_scores"].classes == FOUR
    labels = {
        c: FOUR.index(table.classes[n])
        for c, n in zip(table.clip_ids, table.labels, strict=True)
        if table.classes[n] in FOUR
    }
    subjects = dict(zip(table.clip_ids, table.subjects, strict=True))
    again = evaluate(
        cell.verdicts["mean_scores"], np.array([labels[c] for c in cell.clips]), [subjects[c] for c in cell.clips], FOUR
    )
    assert again.to_json() == cell.evaluations["mean_scores"].to_json()
    assert made.cells["b", "c"].classes == SIX  # it may answer what c never shows


def test_costs_are_paired_and_only_between_equal_classes(found):
    _, made = found
    assert set(made.costs) == {("a-synthetic", "b"), ("b", "a-synthetic")}
    cost = made.costs["a-synthetic", "b"]
    away, home = (made.cells[s, "b"].evaluations["mean_scores"].mean_recall.value for s in ("a-synthetic", "b"))
    assert cost.value == pytest.approx(away - home) and cost.low <= cost.value <= cost.high


def test_a_person_in_two_databases_is_not_tested_where_they_were_trained(tmp_path):
    table, path = table_of(tmp_path, {"a": SIX, "b": SIX}, shared_subject=True)
    made = matrix(table, path)
    assert len(made.cells["a", "b"].clips) == len(made.cells["b", "a"].clips) == 54
    assert len(made.cells["b", "b"].clips) == 60


def test_a_cell_that_cannot_be_had_says_why_and_the_others_stand(tmp_path):
    table, path = table_of(tmp_path, {"a": SIX, "b": (Emotion.FEAR,), "c": (Emotion.FEAR, Emotion.ANGER)})
    made = matrix(table, path)
    assert made.cells["a", "a"].evaluations and made.cells["a", "b"].evaluations
    for target in "abc":
        assert not made.cells["b", target].evaluations and "2 classes" in made.cells["b", target].reason
    assert "2 classes" in made.to_markdown() and made.cells["c", "b"].classes == (Emotion.ANGER, Emotion.FEAR)
    wild = TRAIN.model_copy(update={"optimizer": "sgd", "lr": 1.0, "momentum": 0.99, "widths": (64, 64)})
    cells = cells_of(path, "a", wild, 3, 0, None, None)
    assert all("diverged" in cell.reason for cell in cells) and len(cells) == 3


def test_one_database_is_no_matrix():
    with pytest.raises(DataError, match="all clips are of one database, 'ckplus'"):
        several(["ckplus", "ckplus"])


def test_table_and_figure_say_what_is_synthetic(found):
    _, made = found
    assert "Synthetic faces" in made.to_markdown() and made.to_json()["synthetic"] is True
    figure = cross_database_figure(made)
    shown = [text.get_text() for text in figure.axes[0].texts]
    value = 100 * made.cells["b", "c"].evaluations["mean_scores"].mean_recall.value
    assert f"{value:.1f}" in shown and "(synthetic)" in figure.axes[0].get_title(loc="left")
    assert figure_png(figure).startswith(b"\x89PNG")
    real = dataclasses.replace(made, synthetic=False)
    assert "ynthetic faces" not in real.to_markdown()


def test_a_source_that_lacks_a_class_of_the_run_is_marked(tmp_path):
    table, path = table_of(tmp_path, {"a": SEVEN, "b": SIX, "c": FOUR}, classes=SEVEN)
    rows = matrix(table, path).to_markdown().splitlines()
    of_a, of_b, of_c = (next(row for row in rows if row.startswith(f"| {name} |")) for name in "abc")
    assert "classes" not in of_a and of_b.count("clips, 6 classes)") == of_c.count("clips, 4 classes)") == 3


def test_nobody_scored_was_trained_or_stopped_on_in_any_cell(tmp_path, monkeypatch):
    table, path = table_of(tmp_path, {"a": SIX, "b": SIX, "c": FOUR}, shared_subject=True)
    spy = Spy()
    monkeypatch.setattr("fer_core.experiments.cross_database.model_of", lambda *_, **__: spy)
    made = matrix(table, path)
    told = spy.told()
    assert len(told) == 3 * (3 + 1), "a fit for each fold at home, and one for elsewhere"
    for source, database in enumerate(made.names):
        people = {s for s, d in zip(table.subjects, table.datasets, strict=True) if d == database}
        *home, (fit, stop, scored) = told[4 * source : 4 * source + 4]
        assert sorted(s for _, _, some in home for s in some) == sorted(people), "everyone at home is scored once"
        assert fit | stop == people and scored == set(table.subjects) - people
