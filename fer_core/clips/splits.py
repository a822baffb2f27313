"""Subject-disjoint splits: no person is on two sides, and classes are spread as evenly as the subjects allow.

Clips of one person look alike for every emotion, so a split by clip or by frame measures how well people are
recognised, not emotions. The sampled schemes use scikit-learn's StratifiedGroupKFold with group = subject. The share of
clips for a side is the union of some folds; the best of a few seeded shuffles is taken.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest
from fer_core.config import SplitConfig
from fer_core.emotions import SIX
from fer_core.errors import ConfigError, DataError
from fer_core.published import TABLE_3_2

log = logging.getLogger(__name__)

_SHUFFLES = 8  # seeded shuffles that are tried for each share
_TOLERANCE = 0.01  # a share of j/k of the folds may differ from the requested one by this much


def split(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    """Return the manifest with a side for every clip by `cfg.scheme`; of a scheme with many splits, split `cfg.fold`.

    Clips that the scheme gives no side, such as those without a label, are left out.

    Raises:
        DataError: subjects are unknown or too few, or a class would be missing from the training side.
        ConfigError: `cfg.fold` or a database named in `cfg` does not exist, or settings contradict each other.
    """
    if cfg.fold >= (n := n_splits(manifest, cfg)):
        raise ConfigError(f"split.fold is {cfg.fold}, but '{cfg.scheme}' makes {n} here, counted from 0")
    done = _SCHEMES[cfg.scheme](manifest, cfg)
    for warning in check_split(done):
        log.warning("%s", warning)
    return done


def n_splits(manifest: Manifest, cfg: SplitConfig) -> int:
    """Return the number of splits of a scheme: one, one per fold, or one per subject with labelled clips."""
    return {"folds": cfg.folds, "one_subject_out": len(manifest.labelled().subjects)}.get(cfg.scheme, 1)


def every_split(manifest: Manifest, cfg: SplitConfig) -> list[Manifest]:
    """Return all splits of a scheme, in the order of `cfg.fold`. Errors: see `split`."""
    return [split(manifest, cfg.model_copy(update={"fold": i})) for i in range(n_splits(manifest, cfg))]


def check_split(manifest: Manifest) -> tuple[str, ...]:
    """Return warnings about a usable split; for example, a class without a test clip has no recall.

    Raises:
        DataError: the training side has fewer than two classes, or lacks a class that another side has.
    """
    counts = {side: manifest.of(side).class_counts() for side in Split if manifest.of(side).clips}
    train = counts.get(Split.TRAIN, {})
    present = [label for label, n in train.items() if n]
    if len(present) < 2:
        had = f"only {present[0]}" if present else "no labelled clip"
        raise DataError(f"the training side has {had}; it needs at least 2 classes. Add clips or split again")
    found = []
    for side in (Split.VALIDATION, Split.TEST):
        here = counts.get(side, {})
        for emotion, n in here.items():
            if n and not train.get(emotion, 0):
                raise DataError(
                    f"{emotion} has {n} {side} clips but none to train on; split with another seed, add subjects, "
                    f"or drop the {emotion} clips"
                )
            if here and not n and train.get(emotion, 0):
                found.append(f"{emotion} has no {side} clip: its recall there is undefined (NaN)")
    return tuple(found)


def grouped_folds(
    subjects: Sequence[str] | np.ndarray, labels: np.ndarray, folds: int, seed: int, setting: str = "search.folds"
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) row indices of each fold: every row is tested once, no subject is on both sides.

    Folds are stratified if the largest class has at least `folds` rows, otherwise only grouped. A class of one subject
    only is missing from the training side of the fold that tests this subject; no grouping can avoid that.

    Args:
        subjects: (n,) subject of each row.
        labels: (n,) class of each row.
        folds: number of folds.
        seed: seed of the shuffle.
        setting: name of the setting for the number of folds, for the error message.
    Raises:
        DataError: fewer subjects than folds, an unknown subject, or fewer than two classes.

    Example:
        >>> subjects, labels = ["s1", "s1", "s2", "s2"], np.array([0, 1, 0, 1])
        >>> [(train.tolist(), held_out.tolist()) for train, held_out in grouped_folds(subjects, labels, 2, seed=0)]
        [([0, 1], [2, 3]), ([2, 3], [0, 1])]
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    groups = _groups(subjects, labels)
    n_subjects = len(np.unique(groups))
    if n_subjects < folds:
        remedy = f"set {setting} to {n_subjects} or less" if n_subjects > 1 else "add people"
        raise DataError(f"{folds} subject-disjoint folds need {folds} subjects, but there {_are(n_subjects)}; {remedy}")
    rows = np.zeros((len(labels), 1))
    if np.bincount(np.unique(labels, return_inverse=True)[1]).max() >= folds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds, see the docstring
            stratified = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            cut = list(stratified.split(rows, labels, groups))
        if all(len(test) for _, test in cut):  # with few more subjects than folds, a stratified fold can be empty
            return cut
    return list(GroupKFold(folds, shuffle=True, random_state=seed).split(rows, labels, groups))


def inner_split(
    subjects: Sequence[str] | np.ndarray, labels: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return (fit, stop) row indices: a subject-disjoint `share` of the rows for early stopping, and the others.

    The fit rows keep every class where the subjects allow it.

    Raises:
        DataError: fewer than two subjects, an unknown subject, or fewer than two classes.
    """
    stop = _stop_rows(tuple(subjects), tuple(labels.tolist()), share, seed)
    return np.flatnonzero(~stop), np.flatnonzero(stop)


@lru_cache(maxsize=128)  # all trials of a search split the same rows, which takes as long as a quarter of a small fit
def _stop_rows(subjects: tuple[str, ...], labels: tuple[int, ...], share: float, seed: int) -> np.ndarray:
    classes = np.array(labels)
    return _take(_groups(subjects, classes), classes, dict.fromkeys(np.unique(classes), share), seed)


def _are(n: int) -> str:
    return f"is {n}" if n == 1 else f"are {n}"


def _groups(subjects: Sequence[str] | np.ndarray, labels: np.ndarray) -> np.ndarray:
    groups = np.asarray(subjects)
    if len(groups) != len(labels):
        raise DataError(f"{len(groups)} subjects for {len(labels)} labels; there must be one each")
    unknown = int((groups == "").sum())
    if unknown:
        raise DataError(
            f"{unknown} of {len(groups)} clips have no subject, so no split can keep people apart; "
            "fill the subject column, or use the official split"
        )
    if len(np.unique(labels)) < 2:
        had = "one class" if len(labels) else "no clips"
        raise DataError(f"there is {had} only; at least 2 classes are needed. Add clips of another emotion")
    return groups


def _take(groups: np.ndarray, labels: np.ndarray, shares: Mapping[int, float], seed: int) -> np.ndarray:
    """Return a mask, (n,) bool, of whole subjects that have about `shares[c]` of the rows of each class c.

    At least one subject is taken, and at least one is left.

    Of the candidates, the one whose class counts differ least from the shares is taken, each difference as a share of
    its class. A class that would be missing from the rest counts most, one missing from the taken rows next.
    """
    n_subjects = len(np.unique(groups))
    if n_subjects < 2:
        raise DataError(f"a subject-disjoint split needs at least 2 subjects, but there {_are(n_subjects)}; add people")
    total = {c: int((labels == c).sum()) for c in np.unique(labels)}
    wanted = sum(shares[c] * n for c, n in total.items()) / len(labels)
    folds, n_taken = _fraction(wanted, n_subjects)

    def misfit(taken: np.ndarray) -> float:
        miss = 0.0
        for c, n in total.items():
            here = int((taken & (labels == c)).sum())
            miss += abs(here / n - shares[c]) + (100 if here == n else 0) + (1 if here == 0 and n > 1 else 0)
        return miss

    best, least = np.zeros(len(labels), dtype=bool), np.inf
    for shuffle in range(_SHUFFLES):
        cut = grouped_folds(groups, labels, folds, seed * _SHUFFLES + shuffle)
        for first in range(folds):
            taken = np.zeros(len(labels), dtype=bool)
            for j in range(n_taken):
                taken[cut[(first + j) % folds][1]] = True
            if (miss := misfit(taken)) < least:
                best, least = taken, miss
    return best


def _fraction(share: float, n_subjects: int) -> tuple[int, int]:
    """Return (folds, folds to take): the fewest folds whose union matches the share, otherwise the nearest."""
    best = (2, 1)
    for folds in range(2, min(n_subjects, 50) + 1):
        taken = min(max(round(share * folds), 1), folds - 1)
        if abs(taken / folds - share) < abs(best[1] / best[0] - share):
            best = (folds, taken)
        if abs(best[1] / best[0] - share) <= _TOLERANCE:
            break
    return best


def _with_splits(manifest: Manifest, sides: Mapping[str, Split]) -> Manifest:
    """Return the manifest of the clips that have a side in `sides`, by clip id; the others are left out."""
    return manifest.with_clips(replace(c, split=sides[c.id]) for c in manifest.clips if c.id in sides)


def _by_shares(manifest: Manifest, shares: Mapping[Split, Mapping[str, float]], seed: int) -> Manifest:
    """Return the manifest split by class shares: test is taken first, then validation; the rest is for training."""
    rest = _labelled(manifest)
    sides: dict[str, Split] = {}
    gone = dict.fromkeys(manifest.classes, 0.0)
    for side in (Split.TEST, Split.VALIDATION):
        wanted = shares.get(side, {})
        if not any(wanted.values()):
            continue
        labels = rest.labels()
        of_rest = {column: wanted[label] / (1 - gone[label]) for column, label in enumerate(rest.classes)}
        taken = _take(_groups([c.subject for c in rest.clips], labels), labels, of_rest, seed)
        sides |= {c.id: side for c, yes in zip(rest.clips, taken, strict=True) if yes}
        rest = rest.with_clips(c for c, yes in zip(rest.clips, taken, strict=True) if not yes)
        gone = {label: gone[label] + wanted[label] for label in rest.classes}
    return _with_splits(manifest, sides | {c.id: Split.TRAIN for c in rest.clips})


def _labelled(manifest: Manifest) -> Manifest:
    labelled = manifest.labelled()
    _groups([c.subject for c in labelled.clips], labelled.labels())
    if len(labelled) < len(manifest):
        log.warning("%d clips without a label are on no side", len(manifest) - len(labelled))
    return labelled


def _fractions(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    if cfg.test + cfg.validation >= 1:
        raise ConfigError(f"`test + validation < 1` must hold, but got (test={cfg.test}, validation={cfg.validation})")
    shares = {
        Split.TEST: dict.fromkeys(manifest.classes, cfg.test),
        Split.VALIDATION: dict.fromkeys(manifest.classes, cfg.validation),
    }
    return _by_shares(manifest, shares, cfg.seed)


def _thesis(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    """Split each class by its shares in Table 3.2; a class that the table lacks gets the shares of all clips."""
    total = np.sum(list(TABLE_3_2.values()), axis=0)
    shares = {}
    for side in (Split.TEST, Split.VALIDATION):
        row = np.array(TABLE_3_2[side])
        own = dict(zip(SIX, row / total, strict=True))
        shares[side] = {label: own.get(label, row.sum() / total.sum()) for label in manifest.classes}
    return _by_shares(manifest, shares, cfg.seed)


def _folds(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    labelled = _labelled(manifest)
    clips, subjects = labelled.clips, [c.subject for c in labelled.clips]
    train, test = grouped_folds(subjects, labelled.labels(), cfg.folds, cfg.seed, "split.folds")[cfg.fold]
    return _with_splits(manifest, {clips[i].id: Split.TRAIN for i in train} | {clips[i].id: Split.TEST for i in test})


def _one_subject_out(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    clips = _labelled(manifest).clips
    out = manifest.labelled().subjects[cfg.fold]
    return _with_splits(manifest, {c.id: Split.TEST if c.subject == out else Split.TRAIN for c in clips})


def _cross_database(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    """Split by database; clips of unnamed databases, and test clips of classes unseen in training, are left out."""
    for name in (*cfg.train_on, *cfg.test_on):
        if name not in manifest.datasets:
            raise ConfigError(f"no database '{name}' in the manifest; it has {', '.join(manifest.datasets)}")
    if not cfg.train_on or not cfg.test_on or set(cfg.train_on) & set(cfg.test_on):
        raise ConfigError(
            f"cross_database needs databases to train on and others to test on, "
            f"but got (train_on={cfg.train_on}, test_on={cfg.test_on})"
        )
    clips = _labelled(manifest).clips
    train = [c for c in clips if c.dataset in cfg.train_on]
    test = [c for c in clips if c.dataset in cfg.test_on]
    known = {c.emotion for c in train}
    unseen = [c for c in test if c.emotion not in known]
    if unseen:
        log.warning("%d test clips are of classes %s lacks; they are left out", len(unseen), ", ".join(cfg.train_on))
    sides = {c.id: Split.TRAIN for c in train} | {c.id: Split.TEST for c in test if c.emotion in known}
    if cfg.validation:
        shares = {Split.VALIDATION: dict.fromkeys(manifest.classes, cfg.validation)}
        sides |= {c.id: c.split for c in _by_shares(manifest.with_clips(train), shares, cfg.seed).clips if c.split}
    return _with_splits(manifest, sides)


def _official(manifest: Manifest, cfg: SplitConfig) -> Manifest:
    """Take the sides of the `split` column, or of AFEW's folders (`group_official`).

    Where there is no test side (AFEW's test labels were never published), validation becomes the test side. A subject
    on both sides keeps only the training clips.
    """
    sides = {c.id: c.split or Split(c.groups["official"]) for c in manifest.clips if c.split or "official" in c.groups}
    if len(sides) < len(manifest):
        raise DataError(
            f"{len(manifest) - len(sides)} of {len(manifest)} clips have no official side; "
            "split by another scheme, or keep only databases that come split (AFEW)"
        )
    if Split.TEST not in sides.values():
        sides = {i: Split.TEST if side is Split.VALIDATION else side for i, side in sides.items()}
    trained = {c.subject for c in manifest.clips if c.subject and sides[c.id] is Split.TRAIN}
    leaking = [c.id for c in manifest.clips if c.subject in trained and sides[c.id] is not Split.TRAIN]
    if leaking:
        log.warning("%d clips of people who are also in train are left out of the other sides", len(leaking))
    if not all(c.subject for c in manifest.clips):
        log.warning("subjects are unknown: that no person is on two sides rests on the official split alone")
    return _with_splits(manifest, {i: side for i, side in sides.items() if i not in set(leaking)})


_SCHEMES = {
    "fractions": _fractions,
    "thesis": _thesis,
    "folds": _folds,
    "one_subject_out": _one_subject_out,
    "cross_database": _cross_database,
    "official": _official,
}
