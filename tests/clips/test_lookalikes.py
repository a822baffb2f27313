"""A person under two ids is suspected; other people are not."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.clips.lookalikes import lookalikes


def clips_of(identities: dict[str, int], per_person: int = 4) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Features of subjects; equal numbers are one person."""
    faces = np.random.default_rng(0).normal(size=(max(identities.values()) + 1, 200))
    rng = np.random.default_rng(1)
    features = {
        f"{s}/{k}": faces[p] + rng.normal(0, 0.7, 200) for s, p in identities.items() for k in range(per_person)
    }
    return features, {clip: clip.split("/")[0] for clip in features}


@pytest.mark.parametrize("twin", range(5))
def test_a_person_under_two_ids_is_suspected_and_nobody_else(twin):
    people = {f"s{i}": i for i in range(20)} | {"other": twin}
    found = lookalikes(*clips_of(people))
    assert [{p.first, p.second} for p in found] == [{f"s{twin}", "other"}]
    assert found[0].similarity > found[0].typical
    assert f"'s{twin}'" in str(found[0]) and "give them one id and split again" in str(found[0])


def test_nothing_is_said_where_there_is_nothing_to_learn_from():
    assert lookalikes(*clips_of({"a": 0, "b": 0}, per_person=1)) == []
    assert lookalikes({}, {}) == []
    features, _ = clips_of({"a": 0, "b": 1})
    assert lookalikes(features, {}) == []
