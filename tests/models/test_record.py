"""What a model's record says of its networks."""

from __future__ import annotations

import pytest

from fer_core.features.known_weights import KNOWN
from fer_core.models.record import BackboneRecord


def record(name: str, source: str) -> BackboneRecord:
    return BackboneRecord(name=name, source=source, weights_digest="ab" * 16, normalization="unit")


@pytest.mark.parametrize("name", ["fer2013", "face-api"])
def test_a_published_network_is_named_with_its_licence_its_data_and_its_file(name):
    known = KNOWN[name]
    origin = record(name, f"{known.package.name} {known.package.version}").origin
    for told in (known.package.name, "licence MIT", known.trained_on, known.sha256):
        assert told in origin


def test_of_other_weights_no_licence_is_claimed():
    assert record("fer2013", "mine.safetensors").origin == "fer2013: weights mine.safetensors"
    assert record("vgg16", "imagenet").origin == "vgg16: weights imagenet"
