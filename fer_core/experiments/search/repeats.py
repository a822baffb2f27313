"""Cross-validate the best trials of a search again, with other folds, before one of them is selected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from fer_core.experiments.search.trial import Job, TrialResult, read_spec, run_trial, whole_result, write_spec

FOLDER = "repeats"


def repeat_trials(
    finalists: Sequence[tuple[TrialResult, Path]],
    repeats: int,
    executor: Executor,
    *,
    job: Job = run_trial,
    on_repeat: Callable[[int, int], None] | None = None,
) -> dict[int, list[tuple[TrialResult, Path]]]:
    """Cross-validate each trial `repeats` more times; folds and early-stopping subjects are drawn with other seeds.

    The results are stored beside the trials, so a repeated call computes nothing.

    Args:
        finalists: complete trials of one study and their folders.
        executor, job: see `search`.
        on_repeat: called with the number of cross-validations that have ended, and of all.
    Returns:
        Number of a trial -> results and folders of its repetitions. A repetition that diverged has the state `failed`.
    """
    found: dict[int, list[Path]] = {}
    waiting: list[Future[TrialResult]] = []
    for result, folder in finalists:
        spec = read_spec(folder)
        for repeat in range(1, repeats + 1):
            own = folder.parent / FOLDER / f"{folder.name}-folds-{repeat}"
            write_spec(own, spec.model_copy(update={"seed": spec.seed + repeat, "best": None}))
            found.setdefault(result.number, []).append(own)
            if whole_result(own) is None:
                waiting.append(executor.submit(job, own))
    for ended, future in enumerate(waiting, start=1):
        future.result()
        if on_repeat:
            on_repeat(ended, len(waiting))
    return {number: [(_result(own), own) for own in folders] for number, folders in found.items()}


def _result(folder: Path) -> TrialResult:
    result = whole_result(folder)
    assert result is not None  # its process has just written it
    return result
