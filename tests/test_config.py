"""Settings: whom an error names, what it says to write instead."""

from __future__ import annotations

import re

import pytest

from fer_core.config import BackboneConfig, RunConfig, load_config
from fer_core.emotions import SEVEN, SIX
from fer_core.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "overrides", "message"),
    [
        ("train: {lr: 0.1}", ["train.optimizer=adamw"], r"^--set train\.optimizer=adamw: train\.optimizer: "),
        ("train: {lr: 7}", ["train.epochs=3"], r"^base\.yaml: train\.lr: "),
        ("train: {lr: 7}", ["train.epochs=0"], r"^base\.yaml: train\.lr: .*; --set train\.epochs=0: train\.epochs: "),
        ("train: {lr: 7}", ["train.lr=8", "train.lr=9"], r"^--set train\.lr=9: train\.lr: .* \(got 9\)"),
        ("train: {momentum: 0}", ["train.nesterov=true"], r"^base\.yaml with --set train\.nesterov=true: train: "),
        ("split: {seed: 1}", ["trian.lr=1"], r"^--set trian\.lr=1: unknown key 'trian' \(did you mean 'train'\?\)"),
    ],
    ids=["flag", "file", "each its own", "the last flag", "both together", "a section the file has not"],
)
def test_an_error_names_who_set_the_field(tmp_path, monkeypatch, written, overrides, message):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "base.yaml"
    file.write_text(written)
    with pytest.raises(ConfigError, match=message):
        load_config(file.relative_to(tmp_path), overrides)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("search.widths=[512]", "[[512]]"),
        ("neutral_from=ckplus", "[ckplus]"),
        ("search.batch_sizes=20", "[20]"),
        ("search.lr=0.01", "[0.01, 0.01]"),
        ("split.allow_pairs=[a.mp4]", "[[a.mp4, a.mp4]]"),
    ],
)
def test_a_value_that_must_be_a_list_is_shown_as_one(wrong, right):
    with pytest.raises(ConfigError, match=re.escape(f"needs a list, as in {right} (got ")) as caught:
        load_config(None, [wrong])
    assert "at least" not in str(caught.value) and "uple" not in str(caught.value)
    load_config(None, [f"{wrong.partition('=')[0]}={right}"])


def test_a_list_of_the_wrong_length_is_told_so():
    with pytest.raises(ConfigError, match=r"search\.widths: List should have at least 1 item, not 0"):
        load_config(None, ["search.widths=[]"])


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "{a: " * 100_000, "[" * 100_000 + "]" * 100_000])
def test_yaml_nested_without_end_is_refused_in_one_sentence(tmp_path, text):
    file = tmp_path / "deep.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"deep\.yaml: cannot be read as YAML \(.* nested too deeply\)"):
        load_config(file)
    with pytest.raises(ConfigError, match="the value is no YAML"):
        load_config(None, [f"train.lr={text.removeprefix('a: ')}"])


def test_classes_are_named_or_listed():
    assert load_config().class_list == SIX and load_config(None, ["classes=seven"]).class_list == SEVEN
    assert load_config(None, ["classes=from_manifest"]).class_list is None
    listed = load_config(None, ["classes=[Pain, no pain, happy]"])
    assert listed.class_list == ("happiness", "no_pain", "pain")
    assert RunConfig.model_validate_json(listed.model_dump_json()) == listed


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("classes=eight", r"classes: needs six, seven, from_manifest, or a list .* \[pain, no_pain\] \(got 'eight'\)"),
        ("classes=[pain]", r"classes: there must be 2 to 20 classes, got 1"),
        ("classes=[pain, no]", r"classes: YAML reads yes, no, on and off as true and false"),
    ],
)
def test_classes_that_are_none_are_refused_in_one_sentence(given, why):
    with pytest.raises(ConfigError, match=why) as caught:
        load_config(None, [given])
    assert "\n" not in str(caught.value) and str(caught.value).count("classes:") == 1


def test_features_are_averaged_with_the_mirror_image_for_small_face_networks_unless_a_block_is_tuned():
    mirrored = {name: BackboneConfig(name=name).mirrored for name in ("fer2013", "face-api", "vgg16")}
    assert mirrored == {"fer2013": True, "face-api": True, "vgg16": False}
    assert [part.mirrored for part in BackboneConfig(names=("fer2013", "vgg16"), mirror="mean").parts] == [True, True]
    with pytest.raises(ConfigError, match=r"backbone.mirror is mean, but a last block is tuned"):
        load_config(overrides=["backbone.mirror=mean", "search.transfer=[frozen, last_block]"])
