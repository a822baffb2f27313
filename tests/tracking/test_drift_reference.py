"""The training clips' measures, from the run of a version to the batch that is compared with them."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.config import TrackingConfig
from fer_core.errors import RegistryError
from fer_core.evaluation.drift import MEASURES, Sample
from fer_core.tracking.connection import connect
from fer_core.tracking.drift_reference import FILE, load_reference, log_reference
from fer_core.tracking.run import Run, start_run
from tests.tables import drawn_table


def test_reference_holds_verdicts_and_confidence_of_every_clip(tracking, tmp_path):
    table = drawn_table(tmp_path)
    scores = np.full((int(table.offsets[-1]), len(table.classes)), 0.1)
    scores[:, 1] = 0.5
    with start_run(tracking, "candidate") as run:
        found = log_reference(run, table, scores, [])
    assert len(found.values["confidence"]) == table.n_clips == sum(found.verdicts.values())
    assert list(found.verdicts) == [str(table.classes[1])] and not len(found.values["face_size"])
    assert FILE in {file.path for file in tracking.client.list_artifacts(run.id)}


def test_version_without_a_reference_has_none_and_a_damaged_one_is_named(champion_workspace):
    tracking = connect(TrackingConfig(), champion_workspace)
    assert load_reference(tracking, 2) is None
    run = Run(tracking, tracking.client.get_model_version("face-emotion", "2").run_id)
    run.log_json({"values": {}}, FILE)
    with pytest.raises(RegistryError, match=f"{FILE} of version 2 is damaged .*train it again"):
        load_reference(tracking, 2)
    sample = Sample({name: np.arange(3.0) for name in MEASURES}, {"fear": 3})
    run.log_json(sample.to_json(), FILE)
    assert load_reference(tracking, 2).verdicts == {"fear": 3}
