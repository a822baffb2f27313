"""A whole search of small trials, tracked and in processes of their own, against the same fits in one bare loop.

`python -m benchmarks.trials [TRIALS [TABLE]]`; TABLE is a file of `store/matrix` in a workspace, or drawn features.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import numpy as np

from benchmarks.fits import drawn_table
from fer_core.clips.splits import grouped_folds
from fer_core.config import SearchConfig, TrackingConfig, TrainConfig
from fer_core.dataset.table import FeatureTable, load_table
from fer_core.evaluation.cross_validation import fit_fold, hold_out
from fer_core.experiments.search.processes import called_in, trial_processes
from fer_core.experiments.search.study import open_study, search, trials_per_process
from fer_core.experiments.search.trial import histories, out_of_fold_scores, read_spec, run_trial
from fer_core.features.store import FeatureStore
from fer_core.models.base import Fits
from fer_core.models.registry import model_of
from fer_core.tracking.run import connect, start_run
from fer_core.tracking.trial import send_trial, tracked_trial

WORKERS, FOLDS = 2, 3


def bare_fits(folders: list[Path], table: FeatureTable) -> float:
    """Fit the same folds in this process and return the CPU seconds; the scores must be the same to the last bit."""
    started = time.process_time()
    for folder in folders:
        spec, stored = read_spec(folder), out_of_fold_scores(folder)
        folds = grouped_folds(table.subjects, table.labels, spec.folds, spec.seed)
        for train, held_out in folds[: len(histories(folder))]:
            side = hold_out(table, train, spec.train.inner_share, spec.seed, spec.train.seed)
            scores, _ = fit_fold(model_of(spec.train), Fits(table), side, held_out, frames=True)
            assert np.array_equal(scores, stored[table.frames_of(held_out)]), f"{folder.name} has other scores"
    return time.process_time() - started


def main(trials: str = "100", path: str = "") -> None:
    """Print one row."""
    with tempfile.TemporaryDirectory() as temporary:
        workspace, cfg = Path(temporary), TrackingConfig()
        table = load_table(Path(path)) if path else drawn_table(workspace)
        table_path = Path(path) if path else FeatureStore(workspace / "store").tables.path(table.key)
        space = SearchConfig(trials=int(trials), folds=FOLDS, workers=WORKERS)
        study = open_study(workspace, table, space, TrainConfig())
        tracking = connect(cfg, workspace)
        started, own, before = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with (
            start_run(tracking, "search") as run,
            trial_processes(WORKERS, calls=trials_per_process(TrainConfig())) as processes,
            ThreadPoolExecutor(WORKERS) as threads,
        ):
            run.log_data(study.name, table.note["fingerprint"], synthetic=table.synthetic)
            job = partial(tracked_trial, cfg, workspace, job=called_in(processes, run_trial))
            found = search(
                study, table, table_path, space, TrainConfig(), threads, parent_run=run.id, workers=WORKERS, job=job
            )
            for _, folder in found:
                send_trial(tracking, folder, run.id)
        wall, own = time.perf_counter() - started, time.process_time() - own
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # its processes are counted when it has ended
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        bare = bare_fits([folder for _, folder in found], table)
    print(
        "| trials | complete | search s | CPU-s of its processes | of the coordinator | of the bare fits | overhead |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    complete = sum(result.state == "complete" for result, _ in found)
    overhead = f"{100 * ((cpu + own) / bare - 1):.0f} %"
    print(f"| {len(found)} | {complete} | {wall:.0f} | {cpu:.1f} | {own:.1f} | {bare:.1f} | {overhead} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
