"""Compare a batch's verdicts with its labels, apart for people that the model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fer_core.scoring.scorer import ClipScore


@dataclass(frozen=True)
class Agreement:
    """Verdicts against labels.

    Args:
        clips: of the batch.
        trained_on: clips that show people the model was trained on.
        unnamed: clips of which it is not known whom they show; a file or a folder names nobody, a manifest may.
        labelled: clips with a label and a verdict, those of `trained_on` left out.
        right: those of them whose verdict is their label.
    """

    clips: int
    trained_on: int
    unnamed: int
    labelled: int
    right: int

    @classmethod
    def of(cls, rows: Sequence[ClipScore]) -> Agreement:
        """The agreement of a batch's rows."""
        judged = [row for row in rows if row.label in row.classes and row.emotion and not row.trained_on]
        return cls(
            clips=len(rows),
            trained_on=sum(row.trained_on is True for row in rows),
            unnamed=sum(row.trained_on is None for row in rows),
            labelled=len(judged),
            right=sum(row.label == row.emotion for row in judged),
        )

    @property
    def sentence(self) -> str:
        """It in words."""
        text = f"{self.trained_on} of {self.clips} clips show people the model was trained on"
        text += f"; {self.unnamed} do not say whom they show" if self.unnamed else ""
        left_out = ", the people trained on left out" if self.trained_on else ""
        return text + (f"; {self.right} of {self.labelled} verdicts are as labelled{left_out}" if self.labelled else "")
