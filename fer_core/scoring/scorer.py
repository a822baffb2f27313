"""`ClipScorer`: faces of a clip -> features and descriptors -> scores -> calibrated prediction, in tests and
service."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fer_core.clips.clip import Clip
from fer_core.config import EveryFaceConfig, LimitsConfig, PreprocessConfig, Rule, ScoreConfig
from fer_core.emotions import Classes, Emotion
from fer_core.errors import ClipError, ClipStatus, ConfigError, WeightsError
from fer_core.features.descriptors.catalogue import DESCRIPTORS, describe, of_course, of_points
from fer_core.features.descriptors.descriptor import Source, course_config
from fer_core.features.descriptors.motion import displacement, is_still
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL, neutral_reference
from fer_core.features.store import FeatureStore
from fer_core.models.bundle import ModelBundle, was_trained_on
from fer_core.models.record import ModelFacts
from fer_core.models.svm import SupportVectorsClassifier
from fer_core.models.verdict import apply_temperature, judge
from fer_core.preprocess.arrays import FramesInMemory
from fer_core.preprocess.batch import ClipFaces, faces_in_memory, preprocess_each
from fer_core.preprocess.changes import Change
from fer_core.preprocess.children import WarmChildren
from fer_core.preprocess.faces import Faces
from fer_core.preprocess.selection import select
from fer_core.preprocess.store import FacesStore, cut_at, faces_key
from fer_core.preprocess.weights_file import check_weights
from fer_core.scoring.clip_score import ClipScore, Scores
from fer_core.scoring.explain import decisive, explainable, head_of, motion_of, moved, strip, warmed
from fer_core.scoring.inputs import Item, named
from fer_core.scoring.people import people_of
from fer_core.scoring.windows import Windows, score_windows
from fer_core.store import cache_key

SCORING_VERSION = 8  # raised whenever the same faces and model give another row
_THUMBNAIL = 64
STILL_FACE = "abstained: nothing moved; this model needs a clip that starts with a neutral face"
FADING_FACE = "abstained: the clip seems to begin with an expression; this model needs a neutral start"
VERDICT_FRAMES = 256  # most frames of a verdict if all frames of the clip are read
LONG_S = 30.0  # seconds from which a clip's row carries a warning
ABOVE_CHANCE = 0.05  # share of the way from chance to 1: constant predictions are slightly above chance


def least_confidence(n_classes: int) -> float:
    """Return the confidence below which a prediction is no better than chance, so that the model abstains."""
    chance = 1 / n_classes
    return chance + ABOVE_CHANCE * (1 - chance)


class ClipScorer:
    """A loaded model that scores clips.

    Args:
        bundle: the model.
        cfg: settings that replace the model's rule, number of frames, face detection and abstention threshold.
        limits: limits of one clip; files are decoded in child processes with these limits.
        store_root: folder in which faces and features are stored for later; None: they are not stored.
        name, version: of the registered model, for the results.
        warm: decoding processes under the same limits that other scorers use too; None: this scorer has its own.
        ready: start a decoding process now, and keep one ready; see `WarmChildren`.
    Raises:
        ConfigError: the model cannot be used with this rule, or cannot be explained.
        WeightsError: a network that makes the model's faces was not fetched on this machine; it names the command.
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
        warm: WarmChildren | None = None,
        ready: bool = False,
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
        measures_motion = of_course(bundle.classifier.descriptors)
        self.needs_course = measures_motion or bundle.classifier.reads_neutral
        self.preprocess = self._selected = _overridden(facts, cfg)  # the frames of a clip's own verdict
        self.windows, self.video, self.everyone = cfg.windows, cfg.video, cfg.faces == "all"
        if self.takes_all:
            self.preprocess = _whole(self.preprocess, cfg)
        elif measures_motion and self.preprocess.apex == "given":  # users' files do not come with an apex
            self.preprocess = self.preprocess.model_copy(update={"apex": "estimate"})
        check_weights(self.preprocess, points=of_points(bundle.classifier.descriptors))
        self._store_root = store_root
        # starting a child process takes longer than most clips
        self.warm = warm or WarmChildren(self.limits, ready=ready)
        self._features = None if store_root is None or self.takes_all else FeatureStore(store_root)

    def seen_in_training(self, clip: Clip) -> bool | None:
        """True if the model was trained on the clip's subject; None if the subject is unknown."""
        return was_trained_on(self.bundle.facts, clip.subject) if clip.subject else None

    @property
    def in_windows(self) -> bool:
        """True if every clip is also scored over time."""
        return self.windows.length_s > 0

    @property
    def takes_all(self) -> bool:
        """True if the faces are those of the whole clip, of which each verdict takes a part."""
        return self.in_windows or self.everyone

    @property
    def joined_by(self) -> str:
        """The rule that combines frames, or `whole_clip`."""
        return self.rule if self.bundle.classifier.scores_frames else "whole_clip"

    @property
    def _sees_motion_only(self) -> bool:
        """True if the model reads only motion, so that the clip must start with a neutral face."""
        read = self.bundle.classifier
        return not read.reads_features and all(DESCRIPTORS[name].of_course for name in read.descriptors)

    @property
    def classes(self) -> Classes:
        return self.bundle.classes

    def key(self, digest: str, apex: int = -1) -> str:
        """Return the key of a clip's row, made from everything that the row depends on."""
        return cache_key(
            faces=faces_key(digest, apex, self.preprocess),
            descriptors=[DESCRIPTORS[name].identity for name in self.bundle.classifier.descriptors],
            model=self.bundle.digest,
            rule=self.rule,
            abstain_below=self.abstain_below,
            explain=self.explain,
            engines=[self.bundle.backbone.engine] if self.bundle.backbone else [],
            windows=[self.windows.model_dump(mode="json")] if self.in_windows else [],
            version=SCORING_VERSION,
        )

    def key_of(self, clip: Clip, digest: str) -> str:
        """Return `key` with the apex at which the clip is cut."""
        return self.key(digest, cut_at(clip, self.preprocess))

    def judge(self, faces: Faces, course: Faces | None = None) -> Scores:
        """Predict a clip from its faces, of which there must be at least one.

        Args:
            course: faces of the clip's whole course; required if `needs_course`.
        Raises:
            ClipError: the scores are not finite (crashed).
        """
        shown: dict[Source, np.ndarray] = {"expression": faces.pixels}
        if course is not None:
            shown |= {"course": course.pixels, "points": course.points}
        return self._judged(self._features_of(faces), shown, self._neutral_of(course))

    def _judged(self, features: np.ndarray, shown: dict[Source, np.ndarray], neutral: dict[str, np.ndarray]) -> Scores:
        bundle = self.bundle
        inputs = ClipInputs(
            features=torch.from_numpy(features),
            offsets=np.array([0, len(features)]),
            described=describe(bundle.classifier.descriptors, shown) | neutral,
        )
        view, by_frames = bundle.classifier.frames_in(inputs, 0), bundle.classifier.scores_frames
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
        """Return (n, d) float16 features; d = 0 without a backbone. Raises ClipError if they are not finite."""
        backbone = self.bundle.backbone
        if backbone is None or self._features is None:
            return self._computed(faces.pixels)
        try:
            return self._features.extract(faces, backbone)
        except WeightsError as exc:
            raise ClipError(ClipStatus.CRASHED, str(exc)) from exc

    def _neutral_of(self, course: Faces | None) -> dict[str, np.ndarray]:
        """Return the features of the neutral face if the model reads them. Raises ClipError if they are not finite."""
        backbone = self.bundle.backbone
        if not self.bundle.classifier.reads_neutral or backbone is None or course is None:
            return {}
        try:
            found = (
                neutral_reference(backbone, course.pixels)
                if self._features is None
                else self._features.neutral(course, backbone)
            )
        except WeightsError as exc:
            raise ClipError(ClipStatus.CRASHED, str(exc)) from exc
        return {NEUTRAL: found[None]}

    def _computed(self, pixels: np.ndarray) -> np.ndarray:
        """Return features as `_features_of` does, without the store."""
        if self.bundle.backbone is None:
            return np.empty((len(pixels), 0), dtype=np.float16)
        try:
            return self.bundle.backbone.features(pixels)
        except WeightsError as exc:
            raise ClipError(ClipStatus.CRASHED, str(exc)) from exc

    def _over_time(self, faces: Faces) -> Windows | None:
        """Return the verdicts of a clip's windows; None if it has no times."""
        neutral = self._neutral_of(self._course_of(faces))

        def judge(pixels: np.ndarray, points: np.ndarray, features: np.ndarray) -> np.ndarray:
            shown: dict[Source, np.ndarray] = {"expression": pixels, "course": pixels, "points": points}
            return self._judged(features, shown, neutral).probabilities

        found = score_windows(faces, self.windows, self._computed, judge, len(self.classes), self.abstain_below)
        return found.on_screen() if found and self.everyone else found

    def score(self, clip: str | Path | Clip) -> ClipScore:
        """Score one clip: a video file, a folder of frames, or a Clip. The content of a file never raises an error."""
        item = Item(clip) if isinstance(clip, Clip) else named(str(clip))
        return next(self.score_many([item]))

    def score_frames(self, frames: Sequence[np.ndarray], *, rate: float = 0.0, name: str = "frames") -> ClipScore:
        """Score the frames of one clip that are decoded already, in this process.

        Args:
            frames: the clip's frames in order, each (height, width) grey or (height, width, 3) RGB, uint8.
            rate: frames per second, for the times in the result; 0: unknown.
            name: id of the clip in the result.
        Raises:
            ShapeError: a frame has another shape or type, or there are no frames.
            ConfigError: every face is scored, which needs a file.
        """
        if self.everyone:
            raise ConfigError(
                "score.faces=all follows the faces of files; score frames in memory with score.faces=main"
            )
        media, clip = FramesInMemory(frames, rate), Clip(id=name, path=Path(name))
        whole = faces_in_memory(clip, media, course_config(self.preprocess)) if self.needs_course else None
        return self.score_faces(faces_in_memory(clip, media, self.preprocess), whole)

    def score_many(
        self,
        items: Sequence[Item],
        progress: Callable[[int, int], None] | None = None,
        change: Change | None = None,
    ) -> Iterator[ClipScore]:
        """Yield one row per item, in order: of the main face, or of the first person if every face is scored.

        Arguments and errors as in `score_people`.
        """
        return (people[0] for people in self.score_people(items, progress, change))

    def score_people(
        self,
        items: Sequence[Item],
        progress: Callable[[int, int], None] | None = None,
        change: Change | None = None,
    ) -> Iterator[tuple[ClipScore, ...]]:
        """Yield the rows of each item, in order: one, or one per person if every face is scored.

        Args:
            progress: called with (items done, all items).
            change: change applied to every clip before it is scored.
        Raises:
            StoreError: faces or features cannot be stored.
        """
        with self._faces_store() as store:
            rows = self._rows([item for item in items if item.refused is None], store, change)
            for done, item in enumerate(items, start=1):
                people = next(rows) if item.refused is None else (self._failed(item.clip, item.refused),)
                if progress:
                    progress(done, len(items))
                yield people
            rows.close()

    def _rows(
        self, items: Sequence[Item], store: FacesStore, change: Change | None
    ) -> Generator[tuple[ClipScore, ...], None, None]:
        for root, group in itertools.groupby(items, key=lambda item: item.root):
            for made in self._made(list(group), store, root, change):
                yield self._people(made[0], store) if self.everyone else (self.score_faces(*made),)

    def _people(self, made: ClipFaces, store: FacesStore) -> tuple[ClipScore, ...]:
        """Return the rows of a clip's people. A label is of the clip: of several people, nobody knows whose."""
        if made.error is not None:
            return (self.score_faces(made),)
        people = people_of(made, self.preprocess, store, self.bundle.backbone)
        if len(people) > 1:
            clip = replace(made.clip, subject="", emotion=None, groups={})
            people = [replace(person, clip=clip) for person in people]
        return tuple(self.score_faces(person) for person in people)

    def _made(
        self, items: Sequence[Item], store: FacesStore, root: Path | None, change: Change | None
    ) -> Iterator[tuple[ClipFaces, ClipFaces | None]]:
        """Yield the faces of each clip and, if the model reads them, those of its whole course."""
        clips = [item.clip for item in items]
        known = {item.clip.path: item.digest for item in items if item.digest}

        cfgs = [self.preprocess]
        if self.needs_course and not self.takes_all:
            cfgs.append(course_config(self.preprocess))
        made = preprocess_each(clips, cfgs, self.limits, store, root, warm=self.warm, digests=known, change=change)
        return ((faces[0], faces[1] if len(faces) > 1 else None) for faces in made)

    @contextlib.contextmanager
    def _faces_store(self) -> Iterator[FacesStore]:
        """Return the workspace's store, or a temporary one, because a service must not fill the disk."""
        if self._store_root is not None:
            yield FacesStore(self._store_root)
            return
        with tempfile.TemporaryDirectory(prefix="ferflow-faces-") as folder:
            yield FacesStore(Path(folder))

    def score_faces(self, made: ClipFaces, whole: ClipFaces | None = None) -> ClipScore:
        """Return the row of a clip from its faces, or from the error that it has instead.

        Args:
            whole: the faces of the clip's whole course; required if `needs_course`.
        """
        error = made.error or (whole.error if whole else None)
        if made.faces is None or error is not None:
            assert error is not None
            return self._failed(made.clip, error, made)
        started, faces, course = time.monotonic(), made.faces, whole.faces if whole else None
        windows, looked_at = None, None
        try:
            if self.takes_all:
                looked_at = faces.ledger
                windows = self._over_time(faces) if self.in_windows else None
                course, faces = self._course_of(faces), self._own(faces)
                made = replace(made, faces=faces)
            scores = self.judge(faces, course)
        except ClipError as exc:
            return replace(self._failed(made.clip, exc, made), windows=windows, looked_at=looked_at)
        low, view = faces.low_quality, scores.view
        unfit = self._unfit(scores, course)
        telling = int((view.shares * view.scores[:, scores.index]).argmax()) if view else -1
        chosen, explanation = self._explained(faces, course, scores)
        return ClipScore(
            status=ClipStatus.LOW_QUALITY if low else ClipStatus.OK,
            reason=_why_low(faces) if low else unfit or self._warning(faces, windows),
            emotion=self.classes[scores.index],
            probabilities=scores.probabilities,
            abstained=low or bool(unfit) or float(scores.probabilities[scores.index]) < self.abstain_below,
            frame_scores=view.scores if view else None,
            frame_shares=view.shares if view else None,
            thumbnail=_jpeg(faces.pixels[telling]),
            windows=windows,
            looked_at=looked_at,
            decisive=chosen,
            explanation=explanation,
            **self._about(made.clip, made) | {"flags": tuple(sorted({*faces.flags, *scores.flags}))},
            processing_s=made.seconds + (whole.seconds if whole else 0.0) + time.monotonic() - started,
        )

    def _own(self, faces: Faces) -> Faces:
        """Return the faces of a clip's own verdict, at most `VERDICT_FRAMES` of its faces.

        Raises:
            ClipError: the frames of the clip's own verdict have no face.
        """
        most = min(self._selected.max_frames or VERDICT_FRAMES, VERDICT_FRAMES)
        own = self._selected.model_copy(update={"max_frames": most, "frames_per_s": 0.0})
        part = faces.part(select(faces.n_selected, None, own))
        if part.n_used == 0:
            raise ClipError(ClipStatus.NO_FACE, "no face in its second half; its windows show the rest")
        return part

    def _course_of(self, faces: Faces) -> Faces | None:
        """Return few faces of a clip's whole course; None if the model does not read them."""
        if not self.needs_course:
            return None
        used = np.flatnonzero(faces.ledger.used)
        return faces.part(used[select(len(used), None, course_config(self.preprocess))])

    def _warning(self, faces: Faces, windows: Windows | None) -> str:
        if not self.in_windows:
            return _why_long(faces)
        return "" if windows else "it has no times, so it has no windows"

    def _unfit(self, scores: Scores, course: Faces | None) -> str:
        """Return why a model of motion abstains: the clip has no neutral start. Empty if it does not abstain."""
        if course is None:
            return ""
        if self._sees_motion_only and not _moves(course):
            return STILL_FACE
        if self.classes[scores.index] == Emotion.NEUTRAL:
            return ""
        described = scores.inputs.described
        changes = (part for part in self.bundle.classifier.parts if isinstance(part, SupportVectorsClassifier))
        signed = (part for part in changes if DESCRIPTORS[part.record.descriptor].signed)
        return FADING_FACE if any(part.fades(described[part.record.descriptor])[0] for part in signed) else ""

    def _explained(self, faces: Faces, course: Faces | None, scores: Scores) -> tuple[tuple[int, ...], bytes]:
        """Return the indices of the decisive frames, and the JPEG that explains them; both empty unless requested."""
        if not self.explain:
            return (), b""
        chosen, pictures = np.empty(0, dtype=int), list[np.ndarray]()
        if (head := head_of(self.bundle)) is not None:
            by_head = scores.view or head.frames_in(scores.inputs, 0)
            chosen = decisive(by_head.scores, scores.index, self.explain)
            pictures += warmed(self.bundle, head, faces.pixels[chosen], scores.index, scores.inputs)
        if (motion := motion_of(self.bundle)) is not None and course is not None:
            ways = scores.inputs.described[motion.record.descriptor][0]
            pictures.append(moved(motion, ways, course, scores.index))
        return tuple(chosen.tolist()), strip(pictures)

    def _failed(self, clip: Clip, error: ClipError, made: ClipFaces | None = None) -> ClipScore:
        return ClipScore(
            status=error.status,
            reason=error.reason,
            abstained=True,
            **self._about(clip, made),
            processing_s=made.seconds if made else 0.0,
        )

    def _about(self, clip: Clip, made: ClipFaces | None) -> dict[str, Any]:
        about: dict[str, Any] = {
            "clip": clip.id,
            "person": made.person if made else 1,
            "path": str(clip.path),
            "label": clip.emotion,
            "subject": clip.subject,
            "dataset": clip.dataset,
            "groups": clip.groups,
            "classes": self.classes,
            "digest": made.digest if made else "",
        }
        if made and made.faces:
            faces = made.faces
            about |= {"n_used": faces.n_used, "n_selected": faces.n_selected, "n_frames": faces.n_frames}
            about |= {"flags": faces.flags, "ledger": faces.ledger, "duration_s": faces.duration_s}
        return about


def _check_choices(bundle: ModelBundle, cfg: ScoreConfig) -> None:
    """Raise ConfigError for settings that this model does not support."""
    if cfg.rule not in ("auto", *bundle.classifier.rules):
        raise ConfigError(
            f"score.rule is '{cfg.rule}', which joins frames; this model judges a clip whole. Leave it at auto"
        )
    if cfg.faces == "all" and bundle.facts.preprocess.face.detector == "none":
        raise ConfigError("score.faces=all needs a face detector, but this model takes whole frames as faces")
    signed = any(DESCRIPTORS[name].signed for name in bundle.classifier.descriptors)
    if signed and (cfg.windows.length_s or cfg.faces == "all"):
        raise ConfigError(
            "score.windows and score.faces=all need a model that judges any moment of a clip; this one compares it "
            "with a neutral start. Promote a version of another model, such as head"
        )
    if cfg.explain and not explainable(bundle):
        raise ConfigError(
            f"score.explain is {cfg.explain}, but this model has neither FC layers over convolutions, which Grad-CAM "
            "looks through, nor tracked points; set it to 0"
        )


def _overridden(facts: ModelFacts, cfg: ScoreConfig) -> PreprocessConfig:
    """Return the model's preprocessing settings within its frame budget, with the changes that `cfg` requests."""
    preprocess = facts.preprocess
    changes: dict[str, Any] = {"max_frames": facts.budget.frames} if facts.budget else {}
    if cfg.face_mode != "auto":
        changes["face"] = preprocess.face.model_copy(update={"mode": cfg.face_mode})
    if cfg.max_frames >= 0:
        changes["max_frames"] = cfg.max_frames
    return preprocess.model_copy(update=changes)


def _whole(preprocess: PreprocessConfig, cfg: ScoreConfig) -> PreprocessConfig:
    """Return the settings of the faces of a whole clip: at the rate of its windows, of one person or of everyone."""
    rate = cfg.windows.frames_per_s if cfg.windows.length_s else preprocess.frames_per_s
    changes = {"selection": "all", "apex": "last", "max_frames": 0, "frames_per_s": rate}
    chosen = preprocess.model_copy(update=changes)
    return EveryFaceConfig(**dict(chosen)) if cfg.faces == "all" else chosen


def _moves(course: Faces) -> bool:
    """True if the face moves in the clip."""
    return not is_still(displacement(course.pixels)[None])[0]


def _why_low(faces: Faces) -> str:
    if faces.n_frames == 1:
        return "it has one frame only"
    if 2 * faces.n_used < faces.n_selected:
        return f"a face in {faces.n_used} of its {faces.n_selected} selected frames; needs half of them"
    return ", ".join(flag.replace("_", " ") for flag in faces.flags if flag != "low_quality") or "low quality"


def _why_long(faces: Faces) -> str:
    """Return a warning for a long clip, whose second half rarely shows one expression; else empty."""
    seconds = float(np.nanmax(faces.ledger.time_s, initial=0.0))
    if seconds < LONG_S:
        return ""
    return f"it is {seconds:.0f} s long; one verdict over its second half is doubtful: cut it into single expressions"


def _jpeg(face: np.ndarray) -> bytes:
    small = cv2.resize(face, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 72])[1])
