"""Average the finalists of a search: a setting of its own, evaluated from the scores that its members already have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fer_core.config import TrainConfig
from fer_core.dataset.table import FeatureTable
from fer_core.evaluation.latency import inputs_read
from fer_core.evaluation.metrics import clip_verdicts
from fer_core.experiments.search.trial import (
    AVERAGE_NUMBER,
    OBJECTIVE,
    TrialResult,
    evaluations_of,
    out_of_fold_scores,
    read_spec,
    write_scores,
    write_spec,
)
from fer_core.model_names import AVERAGE
from fer_core.models.registry import model_of
from fer_core.store import write_atomic

FOLDER = "averages"
Trials = Sequence[tuple[TrialResult, Path]]


def average_finalists(
    finalists: Trials, repeated: Mapping[int, Trials], table: FeatureTable
) -> list[tuple[TrialResult, Path]]:
    """Evaluate the average of the finalists' clip scores, once for each cross-validation, and keep it like a trial.

    Nothing is fitted: in the same folds, the average of the members' out-of-fold scores is the out-of-fold score of the
    average. `ferflow train --trial` fits it.

    Args:
        finalists: complete trials of one study, best first.
        repeated: number of a finalist -> its cross-validations with other folds.
        table: the table that the trials were run on.
    Returns:
        Results and folders, that of the finalists' first cross-validation first. Empty if fewer than two finalists can
        be averaged: they need the backbone of the best one, frozen, and all cross-validations complete.
    """
    label = finalists[0][0].backbone
    alike = [(r, folder) for r, folder in finalists if r.backbone == label and r.train.transfer == "frozen"]
    rows = [[(r, folder), *repeated.get(r.number, ())] for r, folder in alike]
    rows = [row for row in rows if all(r.state == "complete" for r, _ in row)]
    if len(rows) < 2:
        return []
    numbers = "-".join(str(row[0][0].number) for row in rows)
    root = finalists[0][1].parent / FOLDER
    return [
        _average(members, root / f"trials-{numbers}-folds-{repeat}", table)
        for repeat, members in enumerate(zip(*rows, strict=True))
    ]


def _average(members: Trials, folder: Path, table: FeatureTable) -> tuple[TrialResult, Path]:
    """Write the average of cross-validations with the same folds into `folder`, like a trial."""
    specs = [read_spec(of) for _, of in members]
    first = specs[0]
    train = TrainConfig(
        model=AVERAGE, members=tuple(r.train.model_dump(mode="json") for r, _ in members), seed=first.train.seed,
        inner_share=first.train.inner_share, threads=first.train.threads, device=first.train.device,
    )  # fmt: skip
    title = "average of trials " + ", ".join(str(spec.number) for spec in specs)
    spec = first.model_copy(
        update={"number": AVERAGE_NUMBER, "train": train, "preset": title, "best": None, "searched": {}}
    )
    write_spec(folder, spec)
    clips = np.arange(table.n_clips)
    shares = [clip_verdicts(out_of_fold_scores(of), table.offsets, clips, OBJECTIVE)[1] for _, of in members]
    scores = np.repeat(np.mean(shares, axis=0), np.diff(table.offsets), axis=0).astype(np.float32)
    write_scores(folder, scores)
    evaluations = evaluations_of(table, scores, clips, train.rules)
    results = [r for r, _ in members]
    result = TrialResult(
        number=AVERAGE_NUMBER, state="complete", train=train, preset=title, backbone=results[0].backbone,
        value=evaluations[OBJECTIVE]["mean_recall"][0], evaluations=evaluations,
        selected=tuple(
            {f"{i}.{name}": value for i, fold in enumerate(folds) for name, value in fold.items()}
            for folds in zip(*(r.selected for r in results), strict=True)
        ),
        n_weights=sum(r.n_weights for r in results), ms_per_clip=_cost(results, first.latency),
        pretrained=next((r.pretrained for r in results if r.pretrained), ()),
        threads=max(r.threads for r in results), seconds=sum(r.seconds for r in results),
    )  # fmt: skip
    write_atomic(folder / "result.json", result.model_dump_json(indent=1).encode())
    return result, folder


def _cost(members: Sequence[TrialResult], latency: Mapping[str, float]) -> float:
    """Return the CPU ms a clip of all members: their own, and that of each input once."""
    read = [inputs_read(model_of(member.train)) for member in members]
    inputs = [sum(latency.get(name, 0.0) for name in names) for names in read]
    shared = sum(latency.get(name, 0.0) for name in dict.fromkeys(name for names in read for name in names))
    return sum(r.ms_per_clip - of for r, of in zip(members, inputs, strict=True)) + shared
