"""One colour per emotion, the same in every picture and report; told apart by most colour-blind readers."""

from __future__ import annotations

from fer_core.emotions import Emotion

# Okabe and Ito 2008, fear darkened to Tol's purple so that it keeps apart from disgust in print.
COLORS: dict[Emotion, str] = {
    Emotion.ANGER: "#D55E00",
    Emotion.DISGUST: "#009E73",
    Emotion.FEAR: "#AA4499",
    Emotion.HAPPINESS: "#E69F00",
    Emotion.SADNESS: "#0072B2",
    Emotion.SURPRISE: "#56B4E9",
    Emotion.NEUTRAL: "#8A8F98",
}
