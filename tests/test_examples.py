"""The examples in the library's docstrings, run as they stand there."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import fer_core

ROOT = Path(fer_core.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("fer_core", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_print_what_they_say(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0 and found.failed == 0
