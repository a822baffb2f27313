"""What may be written where: whole files, over nothing or over a regular file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer_core.errors import StoreError
from fer_core.store import EntryStore


@pytest.mark.parametrize("key", ["../../precious", "/etc/passwd", "..", "a/b", ""])
def test_key_that_is_a_path_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError, match="is no key of the features store; keys are letters and digits"):
        EntryStore(tmp_path, "features").get(key)
