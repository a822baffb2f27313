"""Score clips by ferflow in a process of its own; arguments: folder of the model, then clips. Prints JSON as
`score_by_fer` does; CPU time and memory are those of this process and its decoding processes together."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import psutil

from fer_core.clips.clip import Clip
from fer_core.models.bundle import read_bundle
from fer_core.scoring.inputs import Item
from fer_core.scoring.scorer import ClipScorer


def cpu_s() -> float:
    """Return the CPU seconds of this process and its children."""
    children = (child.cpu_times() for child in psutil.Process().children(recursive=True))
    return sum(os.times()[:4]) + sum(times.user + times.system for times in children)


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


def main(model: str, clips: list[str]) -> None:
    scorer = ClipScorer(read_bundle(Path(model)))
    items = [Item(Clip(id=Path(path).stem, path=Path(path))) for path in clips]
    rows, marks = [scorer.score(items[0].clip)], [(time.time(), cpu_s())]
    rows += scorer.score_many(items[1:])
    marks.append((time.time(), cpu_s()))
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    print(json.dumps({
        "marks": marks,
        "verdicts": [(str(row.emotion), row.n_used) for row in rows],
        "peak_mib": sum(map(peak_mib, [os.getpid(), *children])),
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
