"""A scored batch in MLflow."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fer_core.scoring.batch import score_batch
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from fer_core.tracking.batch_run import histogram, log_batch
from tests.preprocess.films import face_frames, plain_frames, write_video
from tests.saved_models import small_bundle


def test_batch_is_a_run_with_counts_confidence_time_and_version(tracking, tmp_path):
    write_video(tmp_path / "videos-good.mp4", face_frames(8))
    write_video(tmp_path / "videos-plain.mp4", plain_frames(4))
    (tmp_path / "bundle").mkdir()
    scorer = ClipScorer(small_bundle(tmp_path / "bundle"), name="face-emotion", version="7")
    items = collect(sorted(tmp_path.glob("*.mp4")))
    batch = score_batch(scorer, items, tmp_path / "out", tmp_path / "store")
    run = log_batch(tracking, batch, scorer)
    found = tracking.client.get_run(run.id)
    metrics, tags = found.data.metrics, found.data.tags
    assert (metrics["clips"], metrics["scored"], metrics["status/no_face"]) == (2, 1, 1)
    assert sum(metrics[f"verdicts/{c}"] for c in scorer.classes) == 1
    assert metrics["confidence/mean"] == pytest.approx(batch.rows[0].confidence, rel=1e-5) and metrics["seconds"] > 0
    assert (tags["kind"], tags["version"], found.info.status) == ("batch", "7", "FINISHED")
    path = tracking.client.download_artifacts(run.id, "confidence.json", str(tmp_path))
    with open(path) as file:
        assert sum(json.load(file)["clips"]) == 1
    assert "good.mp4" not in str(found.to_dictionary())  # names of clips stay on this machine


def test_histogram_counts_every_clip_once():
    found = histogram(np.array([0.0, 0.05, 0.1, 0.95, 1.0]))
    assert found["clips"] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 2] and found["edges"][0] == 0 and found["edges"][-1] == 1
