from __future__ import annotations

from fer_core.emotions import SIX
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.models.bundle import subject_digest
from fer_core.tracking.registry import STANDING
from fer_core.tracking.run import start_run
from fer_core.tracking.subjects import versions_trained_on


def record(*subjects: str) -> OutOfFoldRecord:
    n = len(subjects)
    return OutOfFoldRecord("ab" * 16, SIX, ("c",) * n, (0,) * n, tuple(map(subject_digest, subjects)), (0,) * n, 0.1)


def test_versions_say_whom_they_were_trained_on_or_that_they_do_not(tracking):
    name, client = tracking.cfg.model, tracking.client
    client.create_registered_model(name)
    versions = []
    for people in (("lab:ann", "lab:bob"), ("lab:bob",), ()):
        with start_run(tracking, "candidate") as run:
            if people:
                run.log_json(record(*people).to_json(), STANDING)
        versions.append(int(client.create_model_version(name, f"runs:/{run.id}/model", run_id=run.id).version))
    assert versions_trained_on(tracking, "lab:ann") == ([versions[0]], [versions[2]])
    assert versions_trained_on(tracking, "lab:bob") == (versions[:2], [versions[2]])
    client.delete_registered_model(name)
