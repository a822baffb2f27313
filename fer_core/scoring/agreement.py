"""Compare a batch's predictions with its labels, without subjects that the model was trained on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """Numbers of clips of a batch, and of correct predictions; `Tally` counts them.

    Args:
        clips: all clips.
        seen_in_training: clips of subjects that the model was trained on.
        unnamed: clips with unknown subject; only a manifest can name subjects.
        labelled: clips with a label and a prediction, without those of `seen_in_training`.
        right: clips among these that are predicted correctly.
    """

    clips: int
    seen_in_training: int
    unnamed: int
    labelled: int
    right: int

    @property
    def sentence(self) -> str:
        """The numbers as a sentence."""
        text = f"{self.seen_in_training} of {self.clips} clips show people the model was trained on"
        text += f"; {self.unnamed} do not say whom they show" if self.unnamed else ""
        left_out = ", the people trained on left out" if self.seen_in_training else ""
        return text + (f"; {self.right} of {self.labelled} verdicts are as labelled{left_out}" if self.labelled else "")
