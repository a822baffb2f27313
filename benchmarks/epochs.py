"""An epoch of each preset of the thesis on this machine, on as many frames as it had, beside what the memory allows."""

from __future__ import annotations

import math
import statistics

from benchmarks.head_step import ROUNDS, bandwidth, memory_seconds, thesis_seconds
from fer_core.config import PRESETS, load_config
from fer_core.published import COMPUTE, TABLE_4_2
from fer_core.runtime import child_environment, n_cores


def main() -> None:
    """Print one row per preset; a few steps are timed, and the time of an epoch is computed from them."""
    presets = [load_config(PRESETS[f"thesis-{number}"], []).train for number in range(1, 5)]
    steps: dict[tuple[int, ...], list[float]] = {train.widths: [] for train in presets}
    speeds: list[float] = []
    ours = child_environment(n_cores())
    for _ in range(ROUNDS):
        speeds.append(bandwidth())
        for widths, times in steps.items():
            times.append(thesis_seconds("ours", ours, widths))
    frames, speed = sum(TABLE_4_2), statistics.median(speeds)
    print(f"{frames} frames (Table 4.2), Adam, {n_cores()} threads, memory {speed / 1e9:.0f} GB/s; epochs as many as")
    print(f"in the thesis ({COMPUTE}). The convolutions run once, before; see `features`.\n")
    print("| preset | FC layers | step s | s an epoch | of the memory bound | all epochs, hours |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number, train in enumerate(presets, 1):
        step = statistics.median(steps[train.widths])
        epoch = step * math.ceil(frames / train.batch_size)
        shown, over = "-".join(map(str, train.widths)), step / memory_seconds(train.widths, speed)
        hours = epoch * train.epochs / 3600
        print(f"| thesis-{number} | {shown}-6 | {step:.3f} | {epoch:.0f} | {over:.1f} | {hours:.1f} |")


if __name__ == "__main__":
    main()
