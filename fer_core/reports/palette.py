"""One colour per class, the same in every picture and report; told apart by most colour-blind readers."""

from __future__ import annotations

from fer_core.emotions import Classes, Emotion

# Okabe and Ito 2008, fear darkened to Tol's purple so that it keeps apart from disgust in print.
COLORS: dict[str, str] = {
    Emotion.ANGER: "#D55E00",
    Emotion.DISGUST: "#009E73",
    Emotion.FEAR: "#AA4499",
    Emotion.HAPPINESS: "#E69F00",
    Emotion.SADNESS: "#0072B2",
    Emotion.SURPRISE: "#56B4E9",
    Emotion.NEUTRAL: "#8A8F98",
}
_OTHERS = ("#CC6677", "#117733", "#332288", "#999933", "#882255", "#44AA99", "#661100", "#6699CC")  # Tol 2021, muted


def colors_of(classes: Classes) -> dict[str, str]:
    """A colour for each class: the emotions' own, and the others' by their place among the others, from the ninth on
    again from the first."""
    others = [label for label in classes if label not in COLORS]
    free = {label: _OTHERS[place % len(_OTHERS)] for place, label in enumerate(others)}
    return {label: COLORS.get(label) or free[label] for label in classes}
