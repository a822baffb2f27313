"""A model that tells on whoever fits it: whom it is fitted to, stopped on and asked about."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fer_core.models.base import ClipClassifier, ClipModel, Fitted

People = frozenset[str]


@dataclass(frozen=True)
class Spy(ClipModel):
    """Knows the truth of the clips it was fitted to and guesses the first class of all others; notes who it is shown.

    Args:
        shown: `fit`, `stop` or `scored`, and the people, in the order it was shown them.
    """

    name: str = "spy"
    title: str = ""
    shown: list[tuple[str, People]] = field(default_factory=list, hash=False)

    def fit(self, fits, side):
        for name, clips in (("fit", side.fit), ("stop", side.stop)):
            self.shown.append((name, frozenset(fits.table.subjects[c] for c in clips)))
        return Fitted(SpyClassifier(self, frozenset(side.fit.tolist()) | frozenset(side.stop.tolist())), seconds=0.0)

    @property
    def setting(self):
        return {"spy": self.name}

    def told(self) -> list[tuple[People, People, People]]:
        """The people fitted to, stopped on and scored of every fit, once no two of the three are seen to share any."""
        fits = []
        for named in zip(*[iter(self.shown)] * 3, strict=True):
            assert [name for name, _ in named] == ["fit", "stop", "scored"]
            fit, stop, scored = (people for _, people in named)
            assert fit and stop and scored
            assert not fit & stop and not fit & scored and not stop & scored
            fits.append((fit, stop, scored))
        return fits


@dataclass(frozen=True)
class SpyClassifier(ClipClassifier):
    spy: Spy
    known: frozenset[int]
    n_parameters: int = 1

    def scores(self, inputs, clips):
        if len(clips) > 1:
            self.spy.shown.append(("scored", frozenset(inputs.subjects[c] for c in clips)))
        guess = [inputs.labels[c] if int(c) in self.known else 0 for c in clips]
        return np.eye(len(inputs.classes))[guess]

    to_record = to_tensors = build = None  # it is never kept
