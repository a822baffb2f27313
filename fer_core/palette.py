"""One colour per class, the same in every figure and report; most colour-blind readers can tell them apart."""

from __future__ import annotations

from fer_core.emotions import Classes, Emotion

# Okabe and Ito 2008; fear has Tol's darker purple, which differs from disgust in print.
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
    """Return a colour for each class.

    Emotions have their own colours. Other classes get one by their position among the others; from the ninth on, the
    colours repeat.
    """
    others = [label for label in classes if label not in COLORS]
    free = {label: _OTHERS[place % len(_OTHERS)] for place, label in enumerate(others)}
    return {label: COLORS.get(label) or free[label] for label in classes}
