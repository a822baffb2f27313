"""The lockbox: each candidate is evaluated on a test set only once, and all evaluations are counted.

A result on which a decision was based is not a test result any more. So no search uses the test set, and wherever a
test result is shown, the number of openings by all candidates is shown with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fer_core.errors import DataError, StoreError
from fer_core.store import write_atomic


@dataclass(frozen=True)
class Opening:
    """Test result of a candidate.

    Args:
        evaluations: rule -> `Evaluation.to_json()`.
        number: number of this opening of the test set, counted from 1.
        openings: number of openings of this test set so far.
        again: True if the candidate was evaluated before; then the stored result is returned.
    """

    evaluations: Mapping[str, Any]
    number: int
    openings: int
    again: bool


def open_lockbox(folder: Path, test: str, candidate: str, evaluate: Callable[[], Mapping[str, Any]]) -> Opening:
    """Return the candidate's test result: computed at the first call, read from the record at later calls.

    Args:
        folder: the workspace's lockbox folder.
        test: key of the test set.
        candidate: key of everything that changes the candidate's scores.
        evaluate: function that evaluates the test clips; called at most once.
    Raises:
        StoreError: the record is damaged, so openings could not be counted.
    """
    path = folder / f"{test}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        record: dict[str, Any] = {}
        if path.is_file():
            try:
                record = json.loads(path.read_text())
            except ValueError as exc:
                raise StoreError(f"{path} is damaged ({exc}); restore it from a backup to keep the count") from exc
        again = candidate in record
        if not again:
            record[candidate] = {"number": len(record) + 1, "evaluations": dict(evaluate())}
            write_atomic(path, json.dumps(record, indent=1).encode())
    return Opening(record[candidate]["evaluations"], record[candidate]["number"], len(record), again)


def refuse_seen(tested: Mapping[str, str], seen: Collection[str]) -> None:
    """Refuse to open the lockbox for a candidate whose training data contains subjects or clips of the test set.

    Args:
        tested: digest -> name of the subjects and clips of the test set.
        seen: digests of the subjects and clips used for training, early stopping or selection.
    Raises:
        DataError: a subject or clip is in both.
    """
    met = [name for digest, name in tested.items() if digest in seen]
    if met:
        raise DataError(
            f"the lockbox stays shut: {len(met)} of {len(tested)} people and recordings in the test set were used "
            f"to train the model, the first is {met[0]}. Train and select on train and validation clips only, or split "
            "again with 'ferflow data split'"
        )
