"""`python -m benchmarks [NAME …]`: run the benchmarks, print their output, and write it to `benchmarks/results.md`.

Each module prints Markdown from its `main()`. It runs in its own process with the environment of a flow, so that the
threads, caches and memory of one do not affect the next. With names, only those run, and no file is written.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from fer_core.runtime import TORCH_ENVIRONMENT, describe_environment, git_commit

HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the benchmark modules."""
    return sorted(p.stem for p in HERE.glob("*.py") if not p.name.startswith("_"))


def machine() -> str:
    """Return the machine and the versions measured, as a Markdown list."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    described = {"processor": _processor(), "memory": f"{memory:.0f} GiB", **describe_environment()}
    described["commit"] = git_commit() or "unknown"
    described["load before"] = f"{os.getloadavg()[0]:.1f}"
    return "".join(f"- {name}: {value}\n" for name, value in described.items())


def section(name: str) -> str:
    """Return the heading, the first line of the module's docstring, its output, and its duration.

    Raises:
        CalledProcessError: the benchmark failed.
    """
    started = time.perf_counter()
    title = (import_module(f"benchmarks.{name}").__doc__ or name).strip().splitlines()[0]
    lines = [f"## {name}\n", "\n", f"{title}\n", "\n", *_run(name)]
    return "".join([*lines, "\n", f"({time.perf_counter() - started:.0f} s)\n"])


def main(chosen: list[str]) -> None:
    """Run the chosen benchmarks, or all."""
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        raise SystemExit(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    text = f"# Benchmarks\n\nWritten by `make bench`; one machine, one day: compare within a table.\n\n{machine()}"
    print(text)
    for name in chosen or names():
        print(f"\n## {name}\n")
        text += f"\n{section(name)}"
    if not chosen:
        (HERE / "results.md").write_text(text, encoding="utf-8")
        print(f"Written: {HERE / 'results.md'}")


def _run(name: str) -> Iterator[str]:
    """Yield the lines that a benchmark prints, and print them at once."""
    command = [sys.executable, "-m", f"benchmarks.{name}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=HERE.parent,
        env={**os.environ, **TORCH_ENVIRONMENT},
    ) as run:  # fmt: skip
        for line in run.stdout or ():
            print(line, end="", flush=True)
            yield line
    if run.returncode:
        raise subprocess.CalledProcessError(run.returncode, command)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


if __name__ == "__main__":
    main(sys.argv[1:])
