"""Emotions and labels: the words for classes, and the named lists of classes.

A run's classes are a tuple of labels, in the order of the columns of all scores: emotions in the thesis's order first,
then other labels alphabetically.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from unicodedata import combining, normalize


class Emotion(StrEnum):
    """Ekman's six basic emotions in the thesis's order (Table 3.2), and neutral."""

    ANGER = "anger"
    DISGUST = "disgust"
    FEAR = "fear"
    HAPPINESS = "happiness"
    SADNESS = "sadness"
    SURPRISE = "surprise"
    NEUTRAL = "neutral"


Classes = tuple[str, ...]
SIX: tuple[Emotion, ...] = tuple(e for e in Emotion if e is not Emotion.NEUTRAL)
SEVEN: tuple[Emotion, ...] = tuple(Emotion)
NAMED: dict[str, Classes] = {"six": SIX, "seven": SEVEN}  # names for the setting `classes`

# Label words of the public databases (lower-cased, trimmed), and their emotions.
ALIASES: dict[str, Emotion] = {
    word: emotion
    for emotion, words in {
        Emotion.ANGER: "anger angry an ang",
        Emotion.DISGUST: "disgust disgusted di dis",
        Emotion.FEAR: "fear fearful afraid scared fe fea",
        Emotion.HAPPINESS: "happiness happy joy joyful ha hap",
        Emotion.SADNESS: "sadness sad sa",
        Emotion.SURPRISE: "surprise surprised su sur",
        Emotion.NEUTRAL: "neutral ne neu",
    }.items()
    for word in words.split()
}
# The same in German, French, Spanish and Greek, without accents (see `_plain`); German umlauts also as two letters.
FOREIGN: dict[str, Emotion] = {
    word: emotion
    for emotion, words in {
        Emotion.ANGER: "wut wutend wuetend arger aerger zorn zornig colere en_colere ira enojo enfado rabia θυμοσ οργη",
        Emotion.DISGUST: "ekel degout asco repugnancia αηδια",
        Emotion.FEAR: "angst furcht peur miedo temor φοβοσ",
        Emotion.HAPPINESS: "freude glucklich gluecklich gluck glueck frohlich froehlich joie heureux felicidad alegria "
        "feliz χαρα ευτυχια",
        Emotion.SADNESS: "trauer traurig traurigkeit tristesse triste tristeza λυπη θλιψη",
        Emotion.SURPRISE: "uberraschung ueberraschung uberrascht ueberrascht sorpresa εκπληξη",
        Emotion.NEUTRAL: "neutre neutro ουδετερο ουδετερη ουδετεροσ",
    }.items()
    for word in words.split()
}
UNCLASSED = frozenset({"other", "none"})  # labels of clips without a class
# Labels of other classes. Clips with one that is no class of the run are dropped and counted, not refused as errors.
OTHER_LABELS = frozenset({"calm", "contempt"}) | UNCLASSED
# Names of other columns in the tables of verdicts and frames; no class may have one.
RESERVED = frozenset(
    {
        *("clip", "path", "label", "status", "emotion", "confidence", "abstained", "frames", "windows", "frames_used"),
        *("frames_selected", "frames_total", "flags", "reason", "rule", "model", "model_version", "model_digest"),
        *(
            "clip_digest",
            "explanation",
            "processing_s",
            "frame",
            "time_s",
            "x",
            "y",
            "width",
            "height",
            "weight",
            "used",
        ),
        *("share", "seen_in_training", "none", "subject", "dataset", "duration_s", "fps", "synthetic_trained"),
        *("person", "start_s", "end_s", "video"),
        *("presence", "yaw", "pitch", "roll", "eye_opening", "mouth_opening", "brow_height", "mouth_corner_height"),
    }
)
MOST_CLASSES = 20
_LABEL = re.compile(r"[a-z0-9][a-z0-9_]{0,29}")


def label_of(word: str) -> str:
    """Return the label of a word: an emotion's name, otherwise the word in lower case with `_` between its parts.

    Example:
        >>> str(label_of("Happy")), str(label_of("Sadness "))
        ('happiness', 'sadness')
    """
    word = word.strip().lower()
    if word in ALIASES:
        return ALIASES[word]
    label = re.sub(r"[\s-]+", "_", word)
    return FOREIGN.get(_plain(label), label)


def _plain(word: str) -> str:
    """Return a word in lower case without accents, in any Unicode form."""
    return "".join(c for c in normalize("NFKD", word.casefold()) if not combining(c))


def label_fault(label: str) -> str:
    """Return the reason why a label cannot name a class; '' when it can."""
    if not _LABEL.fullmatch(label):
        return "a label has up to 30 letters a to z, digits and _"
    if label in RESERVED or label.startswith("group_"):
        return "that is the name of a column in the tables of results; call it something else"
    return ""


def ordered(labels: Iterable[str]) -> Classes:
    """Return the labels, each once, as classes: emotions in the thesis's order, then the others alphabetically."""
    known = {emotion.value: place for place, emotion in enumerate(Emotion)}
    return tuple(sorted(set(labels), key=lambda label: (known.get(label, len(known)), label)))


def checked_classes(words: Iterable[object]) -> Classes:
    """Return the classes of the words that a user listed, in the order of `ordered`.

    Raises:
        ValueError: a word cannot name a class or occurs twice, or there are too few or too many words.
    """
    given = list(words)
    if any(isinstance(word, bool) for word in given):
        raise ValueError("YAML reads yes, no, on and off as true and false; put quotes around such a label")
    classes = tuple(label_of(str(word)) for word in given)
    for label in classes:
        if fault := label_fault(label):
            raise ValueError(f"'{label}' cannot be a class: {fault}")
    twice = sorted({label for label in classes if classes.count(label) > 1})
    if twice:
        raise ValueError(f"'{twice[0]}' is listed twice; a class is listed once")
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise ValueError(f"there must be 2 to {MOST_CLASSES} classes, got {len(classes)}")
    return ordered(classes)
