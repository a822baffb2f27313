"""One optimiser step: the thesis's head with fused and with default Adam; a small head beside a busy process."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.model.head import Head, build_head
from fer_core.runtime import child_environment
from fer_core.training.loop import build_optimizer

THESIS = (25088, (4096, 4096))
SMALL = (1280, (256, 64))
ROUNDS = 6
SMALL_STEPS = 200
# Passes over the weights: forward 1, backward 2 (one writes gradients), Adam reads 4 arrays and writes 3.
PASSES = 10


def step_seconds(head: Head, optimizer: torch.optim.Optimizer, features: torch.Tensor, steps: int) -> float:
    """Median wall clock of a training step."""
    labels = torch.arange(len(features)) % 6
    loss_fn, times = nn.CrossEntropyLoss(), []
    for _ in range(steps):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss_fn(head(features), labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def bandwidth() -> float:
    """Bytes a second that a large copy moves, reads and writes counted."""
    source = torch.empty(64 * 2**20)
    target = torch.empty_like(source)
    target.copy_(source)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(times)


def small_step() -> None:
    """Print the step time of a small head, milliseconds: run in a process of its own."""
    n, widths = SMALL
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    head = build_head(n, widths, 6, 0.5, seed=0)
    optimizer = build_optimizer(head, TrainConfig(), torch.device("cpu"))
    print(1000 * step_seconds(head, optimizer, torch.rand(20, n), SMALL_STEPS))


def spin() -> None:
    """Keep a core busy with torch's own threads."""
    a = torch.rand(700, 700)
    while True:
        a = (a @ a).clamp(0, 1)


@contextmanager
def busy_process() -> Iterator[None]:
    """One other process that computes all the time."""
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    time.sleep(6)  # until it has imported torch
    try:
        yield
    finally:
        process.kill()
        process.join()


def small_step_ms(environment: dict[str, str]) -> float:
    """Step time of the small head in a fresh process."""
    command = [sys.executable, "-c", "from benchmarks.head_step import small_step; small_step()"]
    run = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    return float(run.stdout)


def main() -> None:
    """Print both tables; variants are timed in turn in this one run."""
    n, widths = THESIS
    features = torch.rand(20, n)
    times: dict[bool, list[float]] = {True: [], False: []}
    head = build_head(n, widths, 6, 0.5, seed=0)
    plain = torch.optim.Adam(head.parameters(), 1e-3, fused=False)
    fused = build_optimizer(head, TrainConfig(), torch.device("cpu"))
    for _ in range(ROUNDS):
        times[False].append(step_seconds(head, plain, features, 2))
        times[True].append(step_seconds(head, fused, features, 2))
    default_s, fused_s = (statistics.median(times[kind]) for kind in (False, True))
    bound = PASSES * 4 * head.n_weights / bandwidth()
    print(f"One Adam step of {n}-4096-4096-6, batch 20, fp32, {torch.get_num_threads()} threads\n")
    print("| default s | fused s | times as fast | memory bound s | fused / bound |")
    print("| --- | --- | --- | --- | --- |")
    print(f"| {default_s:.3f} | {fused_s:.3f} | {default_s / fused_s:.2f} | {bound:.3f} | {fused_s / bound:.2f} |\n")
    del head, plain, fused

    ours = child_environment(1)
    alone, alone_default = small_step_ms(ours), small_step_ms({})
    with busy_process():
        beside, beside_default = small_step_ms(ours), small_step_ms({})
    print(f"One step of a small head {SMALL[0]}-256-64-6, batch 20, ms, alone and beside one busy process\n")
    print("| environment | alone | beside | slower by |")
    print("| --- | --- | --- | --- |")
    print(f"| trials' (one thread, passive) | {alone:.2f} | {beside:.2f} | {beside / alone:.1f} |")
    print(f"| OpenMP's default | {alone_default:.2f} | {beside_default:.2f} | {beside_default / alone_default:.1f} |")


if __name__ == "__main__":
    main()
