"""Label words: read a user's file that maps words to labels, and write the hint for a word that is no label."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fer_core.clips.spelling import same_name
from fer_core.emotions import ALIASES, NAMED, OTHER_LABELS, Classes, label_fault, label_of
from fer_core.errors import DataError

_FORM = "write a line 'word,label' for each word (CSV), or 'word: label' (YAML), as in 'HAP,happiness'"


def read_label_map(path: Path, classes: Classes | None) -> dict[str, str]:
    """Return the label of each word in the user's file, by the word's `same_name`; the label `none` leaves clips out.

    Args:
        path: CSV of two columns, word and label, with or without a header; or YAML, `word: label` or
            `label: [word, word]`.
        classes: the labels that exist; None allows any.
    Raises:
        DataError: the file cannot be read, is in neither form, gives one word two labels, or names a label that is
            none of the classes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"{path}: the map of labels cannot be read ({exc}); {_FORM}") from exc
    pairs = _yaml_pairs(path, text) if path.suffix.lower() in (".yaml", ".yml") else _csv_pairs(path, text)
    words: dict[str, str] = {}
    for word, target in pairs:
        label = label_of(target)
        known = not label_fault(label) if classes is None else label in classes
        if not (known or label in ALIASES or label in OTHER_LABELS):
            listed = ", ".join(classes) if classes else "letters a to z, digits and _"
            raise DataError(
                f"{path.name}: '{word}' stands for '{target}', which is no label here; use one of {listed}, or none to "
                "leave such clips out"
            )
        if words.setdefault(same_name(word), label) != label:
            raise DataError(f"{path.name}: '{word}' stands for '{words[same_name(word)]}' and '{label}'; keep one")
    if not words:
        raise DataError(f"{path.name} names no word; {_FORM}")
    return words


def mapped_label(word: str, words: Mapping[str, str] | None) -> str:
    """Return the label of a word: from the user's map where it has the word, otherwise from `label_of`."""
    return (words.get(same_name(word)) if words else None) or label_of(word)


def label_hint(word: str, classes: Classes) -> str:
    """Return what is wrong with a word that is no class, and the remedy; a likely typing error gets a suggestion."""
    words = [*classes, *(w for w in (*ALIASES, *OTHER_LABELS) if len(w) > 3)]
    close = difflib.get_close_matches(label_of(word), words, n=1, cutoff=0.8) if len(word) > 3 else []
    if close:
        return f"is unknown; did you mean '{label_of(close[0])}'?"
    name = next((f"the {name}" for name, listed in NAMED.items() if tuple(listed) == tuple(classes)), "the classes")
    return (
        f"is not one of {name}; use one of {', '.join(classes)}, leave it out, map it ('ferflow data scan ... --labels "
        "map.csv' with a line 'word,label'), or name the classes there are (classes=[...], or from_manifest)."
    )


def _csv_pairs(path: Path, text: str) -> list[tuple[str, str]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    pairs = []
    for line, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != 2 or not all(cells):
            raise DataError(f"{path.name} line {line}: {len(cells)} cells, but a word and a label are two; {_FORM}")
        if cells[1].lower() in ("label", "emotion", "class"):
            continue  # the header
        pairs.append((cells[0], cells[1]))
    return pairs


def _yaml_pairs(path: Path, text: str) -> list[tuple[str, str]]:
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise DataError(f"{path.name} is no YAML ({' '.join(str(exc).split())}); {_FORM}") from exc
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds no words with their labels; {_FORM}")
    pairs = []
    for key, value in content.items():
        for word, target in [(w, key) for w in value] if isinstance(value, list) else [(key, value)]:
            if isinstance(word, (bool, dict, list)) or isinstance(target, (bool, dict, list)) or target is None:
                raise DataError(
                    f"{path.name}: '{word}: {target}' is no word and label; put quotes around yes, no, on, off"
                )
            pairs.append((str(word), str(target)))
    return pairs
