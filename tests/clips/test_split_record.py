"""A split is written with what made it, and the record can make it again."""

from __future__ import annotations

import json
from pathlib import Path

from fer_core.clips.clip import Clip, Split
from fer_core.clips.manifest import Manifest, fingerprint, read_manifest
from fer_core.clips.split_record import write_split
from fer_core.clips.splits import split
from fer_core.config import SplitConfig
from fer_core.emotions import SIX


def test_a_split_can_be_made_again_from_its_record(tmp_path):
    clips = [Clip(f"{s}/{k}", Path(f"/d/{s}/{k}"), f"d:{s}", SIX[k], "d") for s in range(20) for k in range(6)]
    table, cfg = Manifest(tuple(clips)), SplitConfig(test=0.3, validation=0.1, seed=7)
    digests = {c.id: f"{i:02x}" for i, c in enumerate(clips)}
    done = split(table, cfg)
    record = write_split(done, tmp_path / "clips.csv", cfg, digests)

    said = json.loads((tmp_path / "clips.split.json").read_text())
    again = split(table, SplitConfig.model_validate(said["settings"]))
    assert again == done and read_manifest(tmp_path / "clips.csv").clips == done.clips
    assert said["fingerprint"] == record.fingerprint == fingerprint(again, digests)
    assert said["clips"]["test"] == {str(e): n for e, n in done.of(Split.TEST).class_counts().items()}
    assert sum(said["subjects"].values()) == 20
