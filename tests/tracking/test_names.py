"""Names of metrics, parameters and runs."""

from __future__ import annotations

import pytest

from fer_core.config import BackboneConfig, PreprocessConfig, RunConfig, TrainConfig
from fer_core.tracking.connection import check_name
from fer_core.tracking.names import run_name, setting_title, shown_settings


def test_parameters_are_what_people_look_for_and_what_differs_from_the_defaults():
    config = RunConfig(
        workspace="/tmp/x", manifest="clips.csv", backbone=BackboneConfig(name="fer2013"),
        preprocess=PreprocessConfig(max_frames=8), train=TrainConfig(lr=0.005, dropout=0.2, augment={"views": 4}),
    )  # fmt: skip
    assert shown_settings(config) == {
        "backbone": "fer2013", "model": "head", "class_weights": "none", "lr": "0.005", "batch_size": "20",
        "widths": "256", "dropout": "0.2", "views": "4", "preprocess.max_frames": "8",
    }  # fmt: skip


def test_what_was_searched_is_a_parameter_though_it_has_the_default_value():
    drawn = {"optimizer": "adam", "dropout": 0.5, "lr": 0.1}
    shown = shown_settings(TrainConfig(lr=0.1), drawn)
    assert (shown["optimizer"], shown["dropout"], shown["lr"]) == ("adam", "0.5", "0.1")
    assert shown_settings(TrainConfig(model="lbp-svm")) == {"model": "lbp-svm", "class_weights": "none"}


@pytest.mark.parametrize(
    ("train", "drawn", "title"),
    [
        (TrainConfig(lr=1e-3, widths=()), {"lr": 1e-3}, "lr 1.0e-3 · batch 20 · linear"),
        (TrainConfig(lr=0.02, widths=(64,)), {"optimizer": "sgd"}, "lr 0.02 · batch 20 · 64 · optimizer sgd"),
        (TrainConfig(model="lbp-svm", class_weights="balanced"), {"model": "lbp-svm"}, "lbp-svm · balanced"),
    ],
)
def test_the_name_of_a_run_tells_its_setting(train, drawn, title):
    assert setting_title(train, drawn) == title
    assert check_name(run_name("trial 003", title), "run") == f"trial 003 · {title}"


def test_what_a_name_may_not_have_is_replaced():
    assert check_name(run_name("adopted", "a/b<c>.onnx", ""), "run") == "adopted · a_b_c_.onnx"
