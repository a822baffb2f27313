"""The simulated queue of `python -m benchmarks.scale`, against what can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.scale import makespan


@pytest.mark.parametrize(
    ("batches", "workers", "hand_out_s", "seconds"),
    [
        ([2.0, 3.0, 4.0], 1, 0.0, 9.0),
        ([2.0, 3.0, 4.0], 2, 0.0, 6.0),  # the third follows the first
        ([2.0, 3.0, 4.0], 9, 0.0, 4.0),
        ([1.0] * 100, 100, 0.5, 51.0),  # the coordinator is the queue: 100 hand-outs, and the last batch
        ([1.0] * 4, 2, 0.25, 2.75),
    ],
)
def test_each_free_worker_takes_the_next_batch_that_the_coordinator_hands_out(batches, workers, hand_out_s, seconds):
    assert makespan(batches, workers, hand_out_s) == pytest.approx(seconds)


def test_workers_that_are_never_idle_share_the_work_evenly():
    batches = [0.5, 1.5, 1.0, 2.0] * 250
    assert makespan(batches, 10) == pytest.approx(sum(batches) / 10, rel=0.01)
