"""ClipScorer: a clip's faces -> features and descriptors -> scores -> calibrated verdict. Test and service share it."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fer_core.clips.clip import Clip
from fer_core.config import LimitsConfig, PreprocessConfig, Rule, ScoreConfig
from fer_core.emotions import Classes, Emotion
from fer_core.errors import ClipError, ClipStatus, ConfigError, WeightsError
from fer_core.features.descriptors.catalogue import DESCRIPTORS, DISPLACEMENT, describe, of_course
from fer_core.features.descriptors.descriptor import Source, course_config
from fer_core.features.descriptors.motion import displacement, is_still
from fer_core.features.inputs import ClipInputs
from fer_core.features.store import FeatureStore
from fer_core.models.base import FrameView
from fer_core.models.bundle import ModelBundle, was_trained_on
from fer_core.models.verdict import apply_temperature, judge
from fer_core.preprocess.batch import ClipFaces, preprocess_batch
from fer_core.preprocess.changes import Change
from fer_core.preprocess.children import WarmChildren
from fer_core.preprocess.faces import Faces, Ledger
from fer_core.preprocess.store import FacesStore, cut_at, faces_key
from fer_core.scoring.explain import decisive, head_of, motion_of, moved, strip, warmed
from fer_core.scoring.inputs import Item, named
from fer_core.store import cache_key

SCORING_VERSION = 6  # raised whenever the same faces and model give another row
_THUMBNAIL = 64
STILL_FACE = "abstained: nothing moved; this model needs a clip that starts with a neutral face"
FADING_FACE = "abstained: the clip seems to begin with an expression; this model needs a neutral start"
ABOVE_CHANCE = 0.05  # of the way from chance to certainty: who says the same of every clip is just above chance


def least_confidence(n_classes: int) -> float:
    """Probability below which a verdict is no better than chance, so that the model abstains."""
    chance = 1 / n_classes
    return chance + ABOVE_CHANCE * (1 - chance)


@dataclass(frozen=True)
class Scores:
    """The model's scores of a clip's faces.

    Args:
        frames: (n, k) scores of the used frames; a model that judges clips whole gives each the clip's.
        probabilities: (k,) calibrated scores of the clip, sum 1.
        index: column of the verdict.
        inputs: what the model has read. view: what single frames say, and count; None of a model that joins none.
        flags: words on what was particular about judging it.
    """

    frames: np.ndarray
    probabilities: np.ndarray
    index: int
    inputs: ClipInputs
    view: FrameView | None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipScore:
    """One row of a result, complete whatever became of the clip.

    Args:
        clip: as it was named; `path`: where it is; `label`: the truth where a manifest tells it.
        trained_on: whether the model was trained on the person it shows; None where that is not known.
        status: `ok`, `low_quality`, or why there is no verdict; `reason` says it in words.
        emotion: the verdict; None without one.
        probabilities: (k,) calibrated, columns in the model's class order; None without a verdict.
        abstained: too uncertain, or of too low quality, to be acted upon.
        n_used, n_selected, n_frames: frames with a face, selected, decoded.
        flags: of preprocessing (`several_faces`, `truncated` ...).
        digest: of the clip's content; empty where it could not be read.
        ledger: every selected frame. frame_scores, frame_shares: (n_used, k) scores of those used, and (n_used,) their
            shares in the verdict; None of a model that does not join frames.
        thumbnail: JPEG of the most telling face, else of the last; empty without one.
        decisive: places among the used frames of those that are explained; explanation: JPEG of their faces, side by
            side, warm where the verdict's class was found, and of what moved, for a model that reads motion. Both empty
            unless asked for.
        seconds: wall clock spent on it.
    """

    clip: str
    path: str
    status: ClipStatus
    classes: Classes
    reason: str = ""
    label: str | None = None
    trained_on: bool | None = None
    emotion: str | None = None
    probabilities: np.ndarray | None = None
    abstained: bool = False
    n_used: int = 0
    n_selected: int = 0
    n_frames: int = 0
    flags: tuple[str, ...] = ()
    digest: str = ""
    ledger: Ledger | None = None
    frame_scores: np.ndarray | None = None
    frame_shares: np.ndarray | None = None
    thumbnail: bytes = b""
    decisive: tuple[int, ...] = ()
    explanation: bytes = b""
    seconds: float = 0.0

    @property
    def confidence(self) -> float:
        """Calibrated probability of the verdict; NaN without one."""
        if self.probabilities is None or self.emotion is None:
            return float("nan")
        return float(self.probabilities[self.classes.index(self.emotion)])


class ClipScorer:
    """A loaded model that scores clips.

    Args:
        bundle: a model that was read and found sound.
        cfg: overrides of its rule, frames, face search and threshold.
        limits: what one clip may cost; files are decoded in child processes under them.
        store_root: where faces and features are kept for the next time; None: nowhere.
        name, version: of the registered model, for the record.
    Raises:
        ConfigError: the model has no such choice of rules, or nothing that Grad-CAM could show.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        cfg: ScoreConfig | None = None,
        *,
        limits: LimitsConfig | None = None,
        store_root: Path | None = None,
        name: str = "",
        version: str = "",
    ) -> None:
        cfg = cfg or ScoreConfig()
        facts = bundle.facts
        _check_choices(bundle, cfg)
        self.bundle, self.name, self.version = bundle, name, version
        self.limits = limits or LimitsConfig()
        self.rule: Rule = facts.rule if cfg.rule == "auto" else cfg.rule
        self.calibrated = self.rule in facts.temperatures
        self.temperature = facts.temperatures.get(self.rule, 1.0)
        self.explain = cfg.explain
        self.abstain_below = max(cfg.abstain_below, facts.abstain_below, least_confidence(len(facts.classes)))
        self.needs_course = of_course(bundle.classifier.descriptors)
        self.preprocess = _overridden(facts.preprocess, cfg)
        if self.needs_course and self.preprocess.apex == "given":  # files of users do not say where their apex is
            self.preprocess = self.preprocess.model_copy(update={"apex": "estimate"})
        self._store_root = store_root
        self._warm = WarmChildren(self.limits)  # a child's start takes longer than most clips
        self._features = None if store_root is None else FeatureStore(store_root)

    def trained_on(self, clip: Clip) -> bool | None:
        """True if the model was trained on the person that a clip shows; None for a clip that names nobody."""
        return was_trained_on(self.bundle.facts, clip.subject) if clip.subject else None

    @property
    def judges_by(self) -> str:
        """The rule that joins frames, or `whole_clip`."""
        return self.rule if self.bundle.classifier.judges_frames else "whole_clip"

    @property
    def _sees_motion_only(self) -> bool:
        """True if it reads only how a face changes, so that it needs a clip that starts neutral."""
        read = self.bundle.classifier
        return not read.reads_features and all(DESCRIPTORS[name].source == "course" for name in read.descriptors)

    @property
    def classes(self) -> Classes:
        return self.bundle.classes

    def key(self, digest: str, apex: int = -1) -> str:
        """Key of the row of a clip's content: all that the row depends on, and nothing else."""
        return cache_key(
            faces=faces_key(digest, apex, self.preprocess),
            descriptors=[DESCRIPTORS[name].identity for name in self.bundle.classifier.descriptors],
            model=self.bundle.digest,
            rule=self.rule,
            abstain_below=self.abstain_below,
            explain=self.explain,
            version=SCORING_VERSION,
        )

    def key_of(self, clip: Clip, digest: str) -> str:
        """`key`, for the apex that the clip is cut at."""
        return self.key(digest, cut_at(clip, self.preprocess))

    def judge(self, faces: Faces, course: Faces | None = None) -> Scores:
        """The model's scores of at least one face.

        Args:
            course: those of the clip's whole course; needed where the model `needs_course`.
        Raises:
            ClipError: they are not numbers (crashed).
        """
        bundle = self.bundle
        shown: dict[Source, np.ndarray] = {"expression": faces.pixels}
        if course is not None:
            shown["course"] = course.pixels
        inputs = ClipInputs(
            features=torch.from_numpy(self._features_of(faces)),
            offsets=np.array([0, len(faces.pixels)]),
            described=describe(bundle.classifier.descriptors, shown),
        )
        view, by_frames = bundle.classifier.frames_in(inputs, 0), bundle.classifier.judges_frames
        scores = view.scores if view is not None and by_frames else bundle.frame_scores(inputs)
        if not np.isfinite(scores).all():
            raise ClipError(ClipStatus.CRASHED, "the model's scores are not numbers")
        verdict = judge(scores, self.rule)
        return Scores(
            frames=scores,
            probabilities=apply_temperature(verdict.scores, self.temperature),
            index=verdict.index,
            inputs=inputs,
            view=view,
            flags=bundle.classifier.flags(inputs, 0),
        )

    def _features_of(self, faces: Faces) -> np.ndarray:
        """(n, d) float16; d = 0 for a model without convolutions. Raises ClipError when they give no numbers."""
        backbone = self.bundle.backbone
        if backbone is None:
            return np.empty((len(faces.pixels), 0), dtype=np.float16)
        try:
            return (
                backbone.features(faces.pixels) if self._features is None else self._features.extract(faces, backbone)
            )
        except WeightsError as exc:
            raise ClipError(ClipStatus.CRASHED, str(exc)) from exc

    def score(self, clip: str | Path | Clip) -> ClipScore:
        """The row of one clip: a video file, a frame folder, or a Clip. Never raises for what is in the file."""
        item = Item(clip) if isinstance(clip, Clip) else named(str(clip))
        return next(self.score_many([item]))

    def score_many(
        self,
        items: Sequence[Item],
        progress: Callable[[int, int], None] | None = None,
        change: Change | None = None,
    ) -> Iterator[ClipScore]:
        """One row an item, in order.

        Args:
            progress: called with (items done, items in all).
            change: made of every clip before it is scored.
        Raises:
            StoreError: faces or features cannot be stored.
        """
        with self._faces_store() as store:
            rows = self._rows([item for item in items if item.refused is None], store, change)
            for done, item in enumerate(items, start=1):
                row = next(rows) if item.refused is None else self._failed(item.clip, item.refused)
                if progress:
                    progress(done, len(items))
                yield row
            rows.close()

    def _rows(
        self, items: Sequence[Item], store: FacesStore, change: Change | None
    ) -> Generator[ClipScore, None, None]:
        for root, group in itertools.groupby(items, key=lambda item: item.root):
            for made in self._made(list(group), store, root, change):
                yield self._row(*made)

    def _made(
        self, items: Sequence[Item], store: FacesStore, root: Path | None, change: Change | None
    ) -> Iterator[tuple[ClipFaces, ClipFaces | None]]:
        """Faces of each clip and, where the model reads it, of its whole course."""
        clips = [item.clip for item in items]
        known = {item.clip.path: item.digest for item in items if item.digest}

        def faces(cfg: PreprocessConfig) -> Iterator[ClipFaces]:
            return preprocess_batch(clips, cfg, self.limits, store, root, warm=self._warm, digests=known, change=change)

        made = faces(self.preprocess)
        if not self.needs_course:
            return ((one, None) for one in made)
        whole = faces(course_config(self.preprocess))
        return zip(made, whole, strict=True)

    @contextlib.contextmanager
    def _faces_store(self) -> Iterator[FacesStore]:
        """The workspace's, or one that is gone afterwards: a service must not fill a disk."""
        if self._store_root is not None:
            yield FacesStore(self._store_root)
            return
        with tempfile.TemporaryDirectory(prefix="ferflow-faces-") as folder:
            yield FacesStore(Path(folder))

    def _row(self, made: ClipFaces, whole: ClipFaces | None) -> ClipScore:
        error = made.error or (whole.error if whole else None)
        if made.faces is None or error is not None:
            assert error is not None
            return self._failed(made.clip, error, made)
        started, faces = time.monotonic(), made.faces
        try:
            scores = self.judge(faces, whole.faces if whole else None)
        except ClipError as exc:
            return self._failed(made.clip, exc, made)
        low, view = faces.low_quality, scores.view
        unfit = self._unfit(scores, whole.faces if whole else None)
        telling = int((view.shares * view.scores[:, scores.index]).argmax()) if view else -1
        chosen, explanation = self._explained(faces, whole.faces if whole else None, scores)
        return ClipScore(
            status=ClipStatus.LOW_QUALITY if low else ClipStatus.OK,
            reason=_why_low(faces) if low else unfit,
            emotion=self.classes[scores.index],
            probabilities=scores.probabilities,
            abstained=low or bool(unfit) or float(scores.probabilities[scores.index]) < self.abstain_below,
            frame_scores=view.scores if view else None,
            frame_shares=view.shares if view else None,
            thumbnail=_jpeg(faces.pixels[telling]),
            decisive=chosen,
            explanation=explanation,
            **self._about(made.clip, made) | {"flags": tuple(sorted({*faces.flags, *scores.flags}))},
            seconds=made.seconds + (whole.seconds if whole else 0.0) + time.monotonic() - started,
        )

    def _unfit(self, scores: Scores, course: Faces | None) -> str:
        """Return why a model of motion abstains: the clip has no neutral start. Empty where it need not."""
        if course is None:
            return ""
        if self._sees_motion_only and not _moves(course):
            return STILL_FACE
        motion, neutral = motion_of(self.bundle), self.classes[scores.index] == Emotion.NEUTRAL
        fades = motion is not None and motion.fades(scores.inputs.described[DISPLACEMENT.name])[0]
        return FADING_FACE if fades and not neutral else ""

    def _explained(self, faces: Faces, course: Faces | None, scores: Scores) -> tuple[tuple[int, ...], bytes]:
        """Places of the decisive frames, and the picture of what the verdict rests on; both empty unless asked for."""
        if not self.explain:
            return (), b""
        chosen, pictures = np.empty(0, dtype=int), list[np.ndarray]()
        if (head := head_of(self.bundle)) is not None:
            by_head = scores.view or head.frames_in(scores.inputs, 0)
            chosen = decisive(by_head.scores, scores.index, self.explain)
            pictures += warmed(self.bundle, head, faces.pixels[chosen], scores.index)
        if (motion := motion_of(self.bundle)) is not None and course is not None:
            ways = scores.inputs.described[DISPLACEMENT.name][0]
            pictures.append(moved(motion, ways, course.pixels[-1], scores.index))
        return tuple(chosen.tolist()), strip(pictures)

    def _failed(self, clip: Clip, error: ClipError, made: ClipFaces | None = None) -> ClipScore:
        seconds = made.seconds if made else 0.0
        return ClipScore(
            status=error.status, reason=error.reason, abstained=True, **self._about(clip, made), seconds=seconds
        )

    def _about(self, clip: Clip, made: ClipFaces | None) -> dict[str, Any]:
        about: dict[str, Any] = {
            "clip": clip.id,
            "path": str(clip.path),
            "label": clip.emotion,
            "classes": self.classes,
            "digest": made.digest if made else "",
        }
        if made and made.faces:
            faces = made.faces
            about |= {"n_used": faces.n_used, "n_selected": faces.n_selected, "n_frames": faces.n_frames}
            about |= {"flags": faces.flags, "ledger": faces.ledger}
        return about


def _check_choices(bundle: ModelBundle, cfg: ScoreConfig) -> None:
    """Refuse what the model cannot do. Raises ConfigError."""
    if cfg.rule not in ("auto", *bundle.classifier.rules):
        raise ConfigError(
            f"score.rule is '{cfg.rule}', which joins frames; this model judges a clip whole. Leave it at auto"
        )
    if cfg.explain and head_of(bundle) is None and motion_of(bundle) is None:
        raise ConfigError(
            f"score.explain is {cfg.explain}, but this model has neither FC layers over convolutions, which Grad-CAM "
            "looks through, nor tracked points; set it to 0"
        )


def _overridden(preprocess: PreprocessConfig, cfg: ScoreConfig) -> PreprocessConfig:
    """The model's own preprocessing but for what is asked otherwise."""
    changes: dict[str, Any] = {}
    if cfg.face_mode != "auto":
        changes["face"] = preprocess.face.model_copy(update={"mode": cfg.face_mode})
    if cfg.frames == "all":
        changes["max_frames"] = 0
    return preprocess.model_copy(update=changes)


def _moves(course: Faces) -> bool:
    """True if a face changes along a clip's course."""
    return not is_still(displacement(course.pixels)[None])[0]


def _why_low(faces: Faces) -> str:
    if faces.n_frames == 1:
        return "it has one frame only"
    if 2 * faces.n_used < faces.n_selected:
        return f"a face in {faces.n_used} of its {faces.n_selected} selected frames; needs half of them"
    return ", ".join(flag.replace("_", " ") for flag in faces.flags if flag != "low_quality") or "low quality"


def _jpeg(face: np.ndarray) -> bytes:
    small = cv2.resize(face, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 72])[1])
