"""One recording under two names does not get into a run, whoever split the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fer_core.clips.neutral import with_first_frames
from fer_core.corpus import refuse_leaks
from fer_core.errors import DataError
from fer_core.workspace import Workspace
from tests.corpora import stored_corpus


def test_fault_70_the_same_content_under_two_people_is_refused(tmp_path: Path) -> None:
    manifest, rows = stored_corpus(Workspace.open(str(tmp_path)))
    refuse_leaks(manifest, rows)
    rows[-1] = replace(rows[-1], digest=rows[5].digest)  # both surprise
    with pytest.raises(DataError, match=r"1 leaks: clips '.*s00_surprise' and '.*s04_surprise' have the same content"):
        refuse_leaks(manifest, rows)


def test_a_neutral_clip_of_first_frames_is_no_leak(tmp_path: Path) -> None:
    manifest, rows = stored_corpus(Workspace.open(str(tmp_path)))
    whole = with_first_frames(manifest, manifest.datasets)
    assert len(whole) > len(manifest)
    by_id = {row.clip: row for row in rows}
    refuse_leaks(whole, [replace(by_id[c.id.partition("@")[0]], clip=c.id) for c in whole.clips])
