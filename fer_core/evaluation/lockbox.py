"""The lockbox: a test set is looked at once per candidate, and every look is counted.

A number that decided something is no longer a test. So nothing here is ever searched on; the count of openings, over
all candidates, stands beside the number wherever it is shown.
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
    """Scores of a candidate on a test set.

    Args:
        evaluations: rule -> `Evaluation.to_json()`.
        number: which opening of this test set it was, counted from 1.
        openings: how many there are by now.
        again: whether it was opened for this candidate before; then nothing was computed.
    """

    evaluations: Mapping[str, Any]
    number: int
    openings: int
    again: bool


def open_lockbox(folder: Path, test: str, candidate: str, evaluate: Callable[[], Mapping[str, Any]]) -> Opening:
    """The candidate's test result: computed at the first opening, read back at any later one.

    Args:
        folder: the workspace's lockbox.
        test: identity of the test set.
        candidate: digest of all that decides what it scores.
        evaluate: scores the test clips; called at most once.
    Raises:
        StoreError: the record is damaged, so that openings could no longer be counted.
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
    """Keep the lockbox shut for a candidate that has met its content before: fitted, stopped or chosen on it.

    Args:
        tested: digest -> name, of the people and recordings of the test set.
        seen: digests of the people and recordings the candidate's data held.
    Raises:
        DataError: they have some in common.
    """
    met = [name for digest, name in tested.items() if digest in seen]
    if met:
        raise DataError(
            f"the lockbox stays shut: of {len(tested)} people and recordings in the test set the model has already "
            f"seen {len(met)}, the first is {met[0]}. Fit, stop and choose on train and validation clips only, or "
            "split again with 'ferflow data split'"
        )
