"""The rows of a batch, read from the store when they are needed, so that a batch of any size fits in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import overload

from fer_core.clips.clip import Clip
from fer_core.errors import StoreError
from fer_core.scoring.clip_score import ClipScore
from fer_core.scoring.inputs import Item
from fer_core.scoring.row_store import RowStore
from fer_core.scoring.scorer import ClipScorer


class Rows(Sequence[ClipScore]):
    """The rows of some items, in order: one per item, or one per person if every face was scored.

    Args:
        scorer: the model that made the rows.
        items: the items, with their digests.
        store: has the rows of every item that is not in `unstored`.
        n_people: number of rows of each item.
        unstored: rows that may not be stored, by the place of their item.
        change: applied to every row.
    """

    def __init__(
        self,
        scorer: ClipScorer,
        items: Sequence[Item],
        store: RowStore,
        n_people: Sequence[int],
        unstored: Mapping[int, tuple[ClipScore, ...]],
        change: Callable[[ClipScore], ClipScore] | None = None,
    ) -> None:
        self._scorer, self._items, self._store, self._unstored = scorer, items, store, unstored
        self._n_people, self._change = n_people, change
        self._ends = list(accumulate(n_people))

    def changed(self, change: Callable[[ClipScore], ClipScore]) -> Rows:
        """Return the same rows with `change` applied to each."""
        return Rows(self._scorer, self._items, self._store, self._n_people, self._unstored, change)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[ClipScore]:
        """Yield all rows.

        Raises:
            StoreError: a row was removed from the store during the batch.
        """
        for place in range(len(self._items)):
            yield from self._people(place)

    @overload
    def __getitem__(self, index: int) -> ClipScore: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ClipScore, ...]: ...
    def __getitem__(self, index: int | slice) -> ClipScore | tuple[ClipScore, ...]:
        """Return a row, or some. Errors as in `__iter__`."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        number = range(len(self))[index]
        place = bisect_right(self._ends, number)
        return self._people(place)[number - self._ends[place]]

    def _people(self, place: int) -> tuple[ClipScore, ...]:
        item = self._items[place]
        people = self._unstored.get(place) or self._store.get_people(self._scorer.key_of(item.clip, item.digest))
        if len(people) != self._n_people[place]:
            raise StoreError(
                f"the row of clip '{item.clip.id}' was removed from the store while the batch was written; score the "
                "batch again: the other rows are stored"
            )
        named = tuple(_named(row, item.clip, self._scorer, alone=len(people) == 1) for row in people)
        return tuple(map(self._change, named)) if self._change else named


def _named(row: ClipScore, clip: Clip, scorer: ClipScorer, alone: bool) -> ClipScore:
    """Return a row as the row of `clip`; the store has it without names.

    Args:
        alone: False for a row of several people, of whom nobody knows which the label and the subject mean.
    """
    return replace(
        row,
        clip=clip.id,
        path=str(clip.path),
        label=clip.emotion if alone else None,
        subject=clip.subject if alone else "",
        dataset=clip.dataset,
        groups=clip.groups if alone else {},
        seen_in_training=scorer.seen_in_training(clip) if alone and clip.subject else None,
    )
