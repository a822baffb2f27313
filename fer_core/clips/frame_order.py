"""Find the order of a clip's frames from the numbers in their file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import gcd
from pathlib import PurePath

from fer_core.errors import ClipError, ClipStatus

DENSE = 0.5  # minimum share of the numbers between first and last that must exist for files to be frames of one clip
FEW = 4  # from this many numbers on, a common step above 1 counts; fewer numbers share a step by chance
_WHOLE = re.compile(r"(?:(?<![^\s_=(])-)?\d+")
_DECIMAL = re.compile(r"(?:(?<![^\s_=(])-)?\d+(?:\.\d+)?")
_DECIMAL_POINT = re.compile(r"[-.]\d*$")  # the number may be the fraction of a decimal
_UNIT = re.compile(r"[\W_]*(?:h|m|s|ms|t|min|sec)?[\W_]*", re.IGNORECASE)  # text allowed between the parts of a time
_SCALE = 10**6  # numbers are held in millionths, so that steps of decimals compare exactly

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class FrameOrder:
    """File names in the order of their frames.

    Args:
        names: the numbered files, in order.
        others: files without a number among numbered ones; they are not frames.
        continuous: True if the numbers have no large gaps, as the frames of one clip have.
        reading: the number that gave the order, where several readings of the names disagree; empty where all agree.
    """

    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    continuous: bool = True
    reading: str = ""


@dataclass(frozen=True)
class _Reading:
    what: str
    names: tuple[str, ...]
    continuous: bool
    by_one: bool = True  # number, which differs in every name


def frame_order(names: Iterable[str]) -> FrameOrder:
    """Return file names in the order of the number that counts frames.

    All numbers are compared, the first as the most significant (`1_10` after `1_9`, `12-01-00` after `12-00-59`). Where
    that order has gaps and the values of one number alone have none (`0.93_frame_7`), that number gives the order.

    Raises:
        ClipError: two readings of the names give two orders and neither is continuous, the names count two things
            (`frame_1_face_2`), belong to several series, or have no numbers (status rejected).
    """
    every = sorted(names)
    if len(every) < 2:
        return FrameOrder(tuple(every))
    if (counts := _counter(every)) is not None:
        return FrameOrder(tuple(every), continuous=_dense(counts))
    numbered, others = _numbered(every)
    if not numbered:
        raise _refused(f"its pictures have no numbers in their names ({_some(every)}), so their order is unknown")
    first = [name for name in others if _is_zeroth(name, numbered)]
    if len(numbered) + len(first) < 2:
        raise _refused(f"only one of its pictures has a number in its name ({_some(every)}), so their order is unknown")
    readings = _readings(numbered)
    natural = readings[0]
    agreed = all(reading.names == natural.names for reading in readings)
    chosen = next((reading for reading in readings if reading.continuous), natural)
    if not agreed and not chosen.continuous:
        other = next(reading for reading in readings if reading.names != natural.names)
        one, two = next(pair for pair in zip(natural.names, other.names, strict=True) if pair[0] != pair[1])
        raise _refused(
            f"the order of its frames is uncertain: by {natural.what} {one!r} comes before {two!r}, by {other.what} "
            "behind it, and neither counts without gaps"
        )
    if not chosen.continuous and not any(reading.by_one for reading in readings):
        raise _refused(
            f"the names of its pictures count more than one thing, or are of several series ({_some(numbered)})"
        )
    if len(first) == 1:  # `img.png` before `img (2).png`
        chosen = _Reading(chosen.what, (first[0], *chosen.names), chosen.continuous)
        others = [name for name in others if name not in first]
    return FrameOrder(chosen.names, tuple(others), chosen.continuous, "" if agreed else chosen.what)


def _counter(names: Sequence[str]) -> list[int] | None:
    """Return the numbers of sorted names that differ in exactly one number of the same width; None for other names."""
    first, last = names[0], names[-1]
    start = _shared(first, last)
    end = len(first) - _shared(first[::-1], last[::-1])
    counted = [name[start:end] for name in names]
    alike = all(len(name) == len(first) and name.startswith(first[:start]) for name in names)
    if not alike or not all(text.isdecimal() and text.isascii() for text in counted):
        return None
    whole = all(name.endswith(first[end:]) for name in names) and not first[end : end + 1].isdecimal()
    return [int(text) * _SCALE for text in counted] if whole and not _DECIMAL_POINT.search(first[:start]) else None


def _shared(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _numbered(names: Sequence[str]) -> tuple[list[str], list[str]]:
    numbered = [name for name in names if _WHOLE.search(PurePath(name).stem)]
    kept = set(numbered)
    return numbered, [name for name in names if name not in kept]


def _is_zeroth(name: str, numbered: Sequence[str]) -> bool:
    """Return True if the name equals the numbered names without their number."""
    bare = re.sub(r"[\W_]+$", "", PurePath(name).stem)
    return all(re.fullmatch(re.escape(bare) + r"[\W_]*\d+[\W_]*", PurePath(n).stem) for n in numbered)


def _readings(names: Sequence[str]) -> list[_Reading]:
    """Return the possible readings of the names, the usual one first."""
    stems = {name: PurePath(name).stem.lower() for name in names}
    whole = _parsed(stems, _WHOLE)
    decimal = _parsed(stems, _DECIMAL)
    if not _even(whole) and _even(decimal):
        return _readings_of(names, decimal)
    if decimal == whole or not _even(decimal) or not _ragged(stems.values()):
        return _readings_of(names, whole)
    # `0.5` beside `0.25`: a decimal, or two numbers
    return sorted(
        [*_readings_of(names, decimal), *_readings_of(names, whole)], key=lambda reading: not reading.continuous
    )


Parsed = dict[str, tuple[tuple[str, ...], Numbers]]  # name -> its text around the numbers, and the numbers


def _parsed(stems: dict[str, str], pattern: re.Pattern[str]) -> Parsed:
    found = {}
    for name, stem in stems.items():
        numbers = tuple(round(float(text) * _SCALE) for text in pattern.findall(stem))
        found[name] = tuple(pattern.split(stem)), numbers
    if _even(found):
        signed = [
            all(numbers[i] <= 0 for _, numbers in found.values()) for i in range(len(next(iter(found.values()))[1]))
        ]
        if any(signed):  # a hyphen before every number is a separator, not a minus sign
            found = {
                name: (texts, tuple(abs(n) if joins else n for n, joins in zip(numbers, signed, strict=True)))
                for name, (texts, numbers) in found.items()
            }
    return {name: (texts, _year_first(texts, numbers)) for name, (texts, numbers) in found.items()}


def _even(parsed: Parsed) -> bool:
    return len({len(numbers) for _, numbers in parsed.values()}) == 1


def _ragged(stems: Iterable[str]) -> bool:
    """Return True if the decimals differ in the number of digits after the point."""
    widths = [tuple(len(digits) for digits in re.findall(r"\d+\.(\d+)", stem)) for stem in stems]
    return len(set(widths)) > 1


def _year_first(texts: tuple[str, ...], numbers: Numbers) -> Numbers:
    """Return the numbers with each day-month-year date reordered to year, month, day."""
    values = [n // _SCALE for n in numbers]
    for i in range(len(values) - 2):
        day, month, year = values[i : i + 3]
        joined = texts[i + 1] == texts[i + 2] and texts[i + 1] in ("-", ".", "_")
        if joined and 1 <= day <= 31 and 1 <= month <= 12 and 1900 <= year <= 2199:
            return (*numbers[:i], numbers[i + 2], numbers[i + 1], numbers[i], *numbers[i + 3 :])
    return numbers


def _readings_of(names: Sequence[str], parsed: Parsed) -> list[_Reading]:
    def natural(name: str) -> tuple[object, ...]:
        texts, numbers = parsed[name]
        return tuple(part for i, text in enumerate(texts) for part in (text, *numbers[i : i + 1]))

    fields = min(len(numbers) for _, numbers in parsed.values())
    columns: list[tuple[str, Callable[[Numbers], int]]] = []
    if _even(parsed):
        varying = [i for i in range(fields) if len({numbers[i] for _, numbers in parsed.values()}) > 1]
        columns = [(_nth(i, fields), lambda numbers, i=i: numbers[i]) for i in varying]  # type: ignore[misc]
    else:
        varying = []
        columns = [("the first number", lambda numbers: numbers[0]), ("the last number", lambda numbers: numbers[-1])]
    by_all = tuple(sorted(names, key=natural))
    readings = [_Reading("all numbers in turn", by_all, False, by_one=False)]
    for what, number in columns:
        values = {name: number(parsed[name][1]) for name in names}
        if len(set(values.values())) == len(names):
            in_order = tuple(sorted(names, key=lambda name: values[name]))
            readings.append(_Reading(what, in_order, _dense([values[name] for name in in_order])))
    follows = _follows([parsed[name] for name in by_all], varying)
    follows |= any(r.continuous and r.names == by_all for r in readings)
    readings[0] = _Reading(readings[0].what, by_all, follows, by_one=False)
    return readings


def _nth(place: int, fields: int) -> str:
    return "the last number" if place == fields - 1 else f"number {place + 1} of {fields}"


def _dense(values: Sequence[int]) -> bool:
    """Return True if the ascending values have no large gaps: at least `DENSE` of the numbers between them exist.

    The numbers are counted in the largest common step of the values.
    """
    steps = [b - a for a, b in pairwise(values)]
    step = reduce(gcd, steps) if len(values) >= FEW else min(reduce(gcd, steps), _SCALE)
    return len(values) >= DENSE * ((values[-1] - values[0]) // step + 1)


def _follows(rows: Sequence[tuple[tuple[str, ...], Numbers]], varying: Sequence[int]) -> bool:
    """Return True if names in order count like a clock.

    The last number rises, and starts again when an earlier number rises by one.
    """
    if len(varying) < 2:
        return False
    texts = {row[0] for row in rows}
    between = {text for row in texts for text in row[varying[0] + 1 : varying[-1] + 1]}
    if len({row[: varying[-1] + 1] for row in texts}) > 1 or not all(_UNIT.fullmatch(text) for text in between):
        return False
    steps = []
    for (_, before), (_, after) in pairwise(rows):
        place = next((i for i in varying if before[i] != after[i]), varying[-1])
        rise = after[place] - before[place]
        if place == varying[-1]:
            steps.append(rise)
        elif rise != _SCALE or any(after[i] > before[i] for i in varying if i > place):
            return False
    return bool(steps) and min(steps) > 0 and max(steps) <= min(steps) / DENSE


def _some(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (" ..." if len(names) > 3 else "")


def _refused(why: str) -> ClipError:
    return ClipError(ClipStatus.REJECTED, f"{why}; number its frames, or list each picture as a still of its own")
