"""One optimiser step: the thesis's head with Adam as PyTorch has it and as here; a small head beside a busy process."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from fer_core.config import TrainConfig
from fer_core.models.fc_head import Head, build_head
from fer_core.models.linear import Linear
from fer_core.runtime import child_environment, n_cores
from fer_core.training.fit_epochs import build_optimizer

THESIS = (25088, (4096, 4096))
SMALL = (1280, (256, 64))
ROUNDS = 5
SMALL_STEPS = 200
# Passes over the weights in a step: forward 1, backward 1 (it writes gradients), Adam 7 (it reads 4 arrays, writes 3).
PASSES = 9


def step_seconds(head: nn.Module, optimizer: torch.optim.Optimizer, features: torch.Tensor, steps: int) -> float:
    """Return the median wall-clock seconds of a training step."""
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
    """Return the bytes per second of a copy of 1 GiB, reads and writes counted; the best of five."""
    source = torch.rand(2**28)  # filled, because unwritten memory is a single page of zeros in the cache
    target = torch.empty_like(source)
    target.copy_(source)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(times)


def small_step() -> None:
    """Print the milliseconds of a step of a small head; runs in its own process."""
    n, widths = SMALL
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    head = build_head(n, widths, 6, 0.5, seed=0)
    optimizer = build_optimizer(head, TrainConfig())
    print(1000 * step_seconds(head, optimizer, torch.rand(20, n), SMALL_STEPS))


def spin() -> None:
    """Keep torch's threads busy for ever."""
    a = torch.rand(700, 700)
    while True:
        a = (a @ a).clamp(0, 1)


@contextmanager
def busy_process() -> Iterator[None]:
    """Run another process that computes all the time, for the duration of the block."""
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    time.sleep(6)  # until it has imported torch
    try:
        yield
    finally:
        process.kill()
        process.join()


def small_step_ms(environment: dict[str, str]) -> float:
    """Return the milliseconds of a step of the small head in a fresh process."""
    command = [sys.executable, "-c", "from benchmarks.head_step import small_step; small_step()"]
    return _printed_in(environment, command)


def _printed_in(environment: dict[str, str], command: list[str]) -> float:
    """Return the number that a process prints; of the variables for torch, it gets only those in `environment`."""
    kept = {name: value for name, value in os.environ.items() if name not in child_environment(1)}
    return float(subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True).stdout)


def as_torch_has_it(layer: nn.Module) -> nn.Module:
    """Return PyTorch's own linear layer in place of ours; other layers as they are."""
    return nn.Linear(layer.in_features, layer.out_features) if isinstance(layer, Linear) else layer


def thesis_step() -> None:
    """Print the seconds of a step of a head on VGG16's features.

    The command-line arguments are `ours`, `fused` or `plain`, and the widths.
    """
    kind, n, widths = sys.argv[1], THESIS[0], [int(width) for width in sys.argv[2:]]
    head: nn.Module = build_head(n, widths, 6, 0.5, seed=0)
    if kind != "ours":
        head = nn.Sequential(*(as_torch_has_it(layer) for layer in head))
    optimizer = build_optimizer(head, TrainConfig())
    if kind == "plain":
        optimizer = torch.optim.Adam(head.parameters(), 1e-3)
    features = torch.rand(20, n)
    step_seconds(head, optimizer, features, 2)  # Adam's first step allocates its state
    print(step_seconds(head, optimizer, features, 5))


def thesis_seconds(kind: str, environment: dict[str, str], widths: Sequence[int] = THESIS[1]) -> float:
    """Return the seconds of a step of a head on VGG16's features, by default the thesis's, in a fresh process."""
    command = [sys.executable, "-c", "from benchmarks.head_step import thesis_step; thesis_step()", kind]
    return _printed_in(environment, [*command, *map(str, widths)])


def memory_seconds(widths: Sequence[int], bytes_a_second: float) -> float:
    """Return the minimum seconds of a step of such a head: the passes over its weights at memory speed."""
    with torch.device("meta"):
        n_weights = Head(THESIS[0], widths, 6, 0.5).n_weights
    return PASSES * 4 * n_weights / bytes_a_second


def main() -> None:
    """Print both tables; variants are timed in turn in this one run."""
    variants = {
        "PyTorch's default": ("plain", {}),
        "fused": ("fused", {}),
        "fused, huge pages": ("fused", child_environment(n_cores())),
        "fused, huge pages, oneDNN's products (ours)": ("ours", child_environment(n_cores())),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    speeds: list[float] = []
    for _ in range(ROUNDS):
        speeds.append(bandwidth())  # 36 or 60 GB/s here, depending on the memory that a process gets
        for name, variant in variants.items():
            times[name].append(thesis_seconds(*variant))
    bound = memory_seconds(THESIS[1], statistics.median(speeds))
    default = statistics.median(times["PyTorch's default"])
    print(
        f"One Adam step of {THESIS[0]}-4096-4096-6, batch 20, fp32, {n_cores()} threads; memory bound {bound:.3f} s\n"
    )
    print("| Adam | s | times as fast | of the bound |")
    print("| --- | --- | --- | --- |")
    for name, found in times.items():
        seconds = statistics.median(found)
        print(f"| {name} | {seconds:.3f} | {default / seconds:.2f} | {seconds / bound:.1f} |")
    print()

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
