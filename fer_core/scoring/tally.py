"""Count the rows of a batch as they pass: a few numbers per row, so that the rows need not stay in memory."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fer_core.errors import ClipStatus
from fer_core.preprocess.clip_measures import ClipMeasures
from fer_core.scoring.agreement import Agreement
from fer_core.scoring.clip_score import ClipScore

LISTED = 1000  # most rows without a prediction that are kept with their reasons


@dataclass
class Tally:
    """Counts of rows.

    Args:
        n_rows: number of rows.
        statuses: number of rows by status.
        emotions: number of rows by predicted class.
        abstained: number of rows whose prediction is too uncertain.
        unscored: number of rows without a prediction.
        failed: clip, status and reason of the first `LISTED` of them.
        seconds: processing time of all rows.
        seen_in_training, unnamed: numbers of rows as in `Agreement`.
        verdicts, labels: class indices of the rows that `Agreement` compares.
        people: subjects of these rows; digest or clip where the subject is unknown.
        all_named: True if the subjects of all these rows are known.
        confidences: of the rows with a prediction.
        measures: of the clips, to compare them with the training clips.
        timelines, explained, heat: True if a row has scores of single frames, an explanation, decisive frames.
    """

    n_rows: int = 0
    statuses: Counter[ClipStatus] = field(default_factory=Counter)
    emotions: Counter[str] = field(default_factory=Counter)
    abstained: int = 0
    unscored: int = 0
    failed: list[tuple[str, ClipStatus, str]] = field(default_factory=list)
    seconds: float = 0.0
    seen_in_training: int = 0
    unnamed: int = 0
    verdicts: array[int] = field(default_factory=lambda: array("i"))
    labels: array[int] = field(default_factory=lambda: array("i"))
    people: list[str] = field(default_factory=list)
    all_named: bool = True
    confidences: array[float] = field(default_factory=lambda: array("d"))
    measures: ClipMeasures = field(default_factory=ClipMeasures)
    timelines: bool = False
    explained: bool = False
    heat: bool = False

    @classmethod
    def of(cls, rows: Iterable[ClipScore]) -> Tally:
        """Count some rows."""
        tally = cls()
        for _ in tally.counted(rows):
            pass
        return tally

    def counted(self, rows: Iterable[ClipScore]) -> Iterator[ClipScore]:
        """Yield the rows, and count each."""
        for row in rows:
            self._count(row)
            yield row

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by status, the most frequent first."""
        return {status.value: n for status, n in self.statuses.most_common()}

    @property
    def agreement(self) -> Agreement:
        """Correct predictions for subjects that the model was not trained on."""
        return Agreement(
            clips=self.n_rows,
            seen_in_training=self.seen_in_training,
            unnamed=self.unnamed,
            labelled=len(self.labels),
            right=int((np.asarray(self.labels) == np.asarray(self.verdicts)).sum()),
        )

    def _count(self, row: ClipScore) -> None:
        self.n_rows += 1
        self.statuses[row.status] += 1
        self.seconds += row.processing_s
        self.seen_in_training += row.seen_in_training is True
        self.unnamed += row.seen_in_training is None
        if row.status.scored:
            self.abstained += row.abstained
        else:
            self.unscored += 1
            if len(self.failed) < LISTED:
                self.failed.append((row.clip, row.status, row.reason))
        if row.emotion:
            self.emotions[str(row.emotion)] += 1
            self.confidences.append(row.confidence)
            self._compare(row)
        if row.ledger is not None:
            self.measures.add(row.ledger)
        self.timelines |= row.frame_scores is not None
        self.explained |= bool(row.explanation)
        self.heat |= bool(row.decisive)

    def _compare(self, row: ClipScore) -> None:
        """Keep the prediction and the label of a row with both, unless the model was trained on its subject."""
        classes = [str(c) for c in row.classes]
        if row.label in classes and not row.seen_in_training:
            self.verdicts.append(classes.index(str(row.emotion)))
            self.labels.append(classes.index(str(row.label)))
            self.people.append(row.subject or row.digest or row.clip)
            self.all_named &= bool(row.subject)
