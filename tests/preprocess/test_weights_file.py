"""Networks of preprocessing are asked for before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.config import FaceConfig, PreprocessConfig
from fer_core.errors import ConfigError, WeightsError
from fer_core.preprocess.weights_file import FOLDER, check_weights

MISSING = r"the weights of {0} are not on this machine \(.*\); fetch them with 'ferflow weights fetch {0}'"


@pytest.fixture(autouse=True)
def _empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))


@pytest.mark.parametrize(
    ("cfg", "points", "name"),
    [
        (PreprocessConfig(), True, "face-landmarks"),
        (PreprocessConfig(align="eyes"), False, "face-landmarks"),
        (PreprocessConfig(face=FaceConfig(landmarks="yes")), False, "face-landmarks"),
        (PreprocessConfig(face=FaceConfig(detector="blazeface")), False, "blazeface"),
    ],
)
def test_a_network_that_was_not_fetched_is_named_with_its_command(
    cfg: PreprocessConfig, points: bool, name: str
) -> None:
    with pytest.raises(WeightsError, match=MISSING.format(name)):
        check_weights(cfg, points=points)


def test_settings_that_need_no_network_pass() -> None:
    check_weights(PreprocessConfig())


def test_a_model_of_landmarks_is_refused_where_they_are_switched_off() -> None:
    with pytest.raises(ConfigError, match=r"reads landmarks, but preprocess\.face\.landmarks is 'no'; set it to auto"):
        check_weights(PreprocessConfig(face=FaceConfig(landmarks="no")), points=True)
