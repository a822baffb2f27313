"""The emotions, in the thesis's order (Table 3.2): the one place class indices come from."""

from enum import StrEnum


class Emotion(StrEnum):
    """Ekman's six basic emotions, and neutral, which only the seven-class task knows (and puts last)."""

    ANGER = "anger"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPINESS = "happiness"
    SADNESS = "sadness"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"

    @property
    def column(self) -> int:
        """Column of this emotion in every score array."""
        return _INDEX[self]


SIX: tuple[Emotion, ...] = tuple(e for e in Emotion if e is not Emotion.NEUTRAL)
SEVEN: tuple[Emotion, ...] = tuple(Emotion)
CLASSES: dict[str, tuple[Emotion, ...]] = {"six": SIX, "seven": SEVEN}  # what the setting `classes` names
_INDEX = {emotion: i for i, emotion in enumerate(SEVEN)}

# Label words of the public databases (lower-cased, trimmed) and what they mean here.
ALIASES: dict[str, Emotion] = {
    word: emotion
    for emotion, words in {
        Emotion.ANGER: "anger angry an ang",
        Emotion.DISGUST: "disgust disgusted di dis",
        Emotion.FEAR: "fear fearful afraid scared fe fea",
        Emotion.HAPPINESS: "happiness happy joy ha hap",
        Emotion.SADNESS: "sadness sad sa",
        Emotion.SURPRISE: "surprise surprised su sur",
        Emotion.NEUTRAL: "neutral ne neu",
    }.items()
    for word in words.split()
}
# Words that are labels, but of no class here: such clips are dropped and counted, not refused as typing errors.
OTHER_LABELS = frozenset({"calm", "contempt", "other", "none"})


def parse_emotion(word: str) -> Emotion | None:
    """The emotion a database's label word stands for; None when it is unknown or of no class here."""
    return ALIASES.get(word.strip().lower())
