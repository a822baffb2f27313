"""`ferflow score --windows 2s --step 1s`: what is typed becomes settings, or a sentence."""

from __future__ import annotations

import pytest

from fer_core.config import RunConfig
from fer_core.errors import ConfigError
from flows.commands.windows import with_windows


def test_options_become_settings():
    windows = with_windows(RunConfig(), "2s", "500ms").score.windows
    assert (windows.length_s, windows.step, windows.frames_per_s) == (2.0, 0.5, 5.0)
    assert with_windows(RunConfig(), None, None) == RunConfig()


@pytest.mark.parametrize(
    ("length", "step", "said"),
    [
        ("two", None, "'two' is not a duration; write it as 2s, 500ms or 1min"),
        (None, "1s", "--step needs --windows"),
        ("1s", "2s", "longer than length_s .1.; it leaves gaps"),
    ],
)
def test_what_cannot_be_is_one_sentence(length, step, said):
    with pytest.raises(ConfigError, match=said):
        with_windows(RunConfig(), length, step)
