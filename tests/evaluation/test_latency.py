"""What a clip costs is what the work takes of the CPU, whatever else the machine does."""

from __future__ import annotations

import time

from fer_core.evaluation.latency import ms_per_clip


class Waiting:
    """A classifier that waits as if the machine were busy, and whose first call does work that later ones need not."""

    reads_features, reads_neutral, descriptors = True, False, ("lbp",)

    def __init__(self):
        self.calls = 0

    def scores(self, inputs, clips):
        time.sleep(0.02)
        self.calls += 1
        until = time.process_time() + (0.05 if self.calls == 1 else 0.001)
        while time.process_time() < until:
            pass


def test_waiting_and_a_slow_first_run_cost_nothing_and_what_is_read_is_added():
    latency = {"features": 100.0, "lbp": 20.0, "not read": 1000.0}
    assert 120 < ms_per_clip(Waiting(), None, [0], latency) < 130
