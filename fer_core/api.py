"""The Python API: load a registered model, score clips and webcams. `import ferflow` gives these names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from fer_core.config import LimitsConfig, ScoreConfig, TrackingConfig
from fer_core.emotions import Classes
from fer_core.errors import ConfigError, RegistryError
from fer_core.models.engine import on_engine
from fer_core.preprocess.children import WarmChildren
from fer_core.runtime import resolve_device, resolve_workspace
from fer_core.scoring.clip_score import ClipScore as Verdict
from fer_core.scoring.inputs import collect
from fer_core.scoring.scorer import ClipScorer
from fer_core.scoring.stream import score_stream
from fer_core.tracking.connection import Tracking, connect, of_environment
from fer_core.tracking.registry import CHAMPION, alias_version, load_champion, load_version

__all__ = ["Scorer", "Verdict"]

_SCHEME = "models:/"


class Scorer:
    """A registered model that scores clips: `Scorer.champion().score("clip.mp4").emotion`.

    Files are decoded in a child process under limits. It stays warm between calls, ends with this process, and is
    replaced when it dies or has read a bad file. Nothing of the clips is kept on disk.

    Args:
        model: `models:/NAME/VERSION` or `models:/NAME@ALIAS`, as MLflow names it. Its files are checked against the
            registry, and no code of the model is run.
        workspace: folder of the results; `auto`: $FERFLOW_WORKSPACE, otherwise ./workspace.
        tracking_uri: address of MLflow; `auto`: $MLFLOW_TRACKING_URI, otherwise the database in the workspace.
        settings: rule, number of frames, device, explanations ...; None: the model's own.
        limits: limits of one file; None: the defaults.
    Raises:
        ConfigError: the name or the address is malformed, or the model or this machine does not support the settings.
        RegistryError: there is no such version, or its files are not the registered ones.
        TrackingError: MLflow does not answer.
    """

    def __init__(
        self,
        model: str = f"{_SCHEME}face-emotion@{CHAMPION}",
        *,
        workspace: str | Path = "auto",
        tracking_uri: str = "auto",
        settings: ScoreConfig | None = None,
        limits: LimitsConfig | None = None,
    ) -> None:
        settings, limits = settings or ScoreConfig(), limits or LimitsConfig()
        name, version, alias = _parsed(model)
        device = resolve_device(settings.device, "settings.device")
        warm = WarmChildren(limits, ready=True)  # starts while the model is loaded
        tracking = connect(_settings(name, tracking_uri), resolve_workspace(str(workspace)))
        if alias == CHAMPION:
            found = load_champion(tracking, device)
        else:
            found = load_version(tracking, version or _version_of(tracking, alias), device)
        self._scorer = ClipScorer(
            on_engine(found.bundle, settings.engine),
            settings,
            limits=limits,
            name=name,
            version=str(found.version),
            warm=warm,
        )

    @classmethod
    def champion(
        cls,
        *,
        workspace: str | Path = "auto",
        tracking_uri: str = "auto",
        settings: ScoreConfig | None = None,
        limits: LimitsConfig | None = None,
    ) -> Scorer:
        """Return the scorer of the champion of `face-emotion`; arguments and errors as for `Scorer`."""
        return cls(workspace=workspace, tracking_uri=tracking_uri, settings=settings, limits=limits)

    @property
    def name(self) -> str:
        """Name of the registered model."""
        return self._scorer.name

    @property
    def version(self) -> int:
        """Its version."""
        return int(self._scorer.version)

    @property
    def classes(self) -> Classes:
        """The classes, in the order of `Verdict.probabilities`."""
        return self._scorer.classes

    def score(self, clip: str | Path | np.ndarray | Iterable[np.ndarray], *, rate: float = 0.0) -> Verdict:
        """Return the verdict on one clip; a clip that cannot be scored has a status and a reason, and no emotion.

        Args:
            clip: path of a video, a picture or a folder of frames; or decoded frames, uint8: an array (n, height,
                width) grey or (n, height, width, 3) RGB, or the frames one by one. One frame alone is a clip of one.
            rate: frames per second of decoded frames, for the times in the verdict; 0: unknown.
        Raises:
            ShapeError: decoded frames have another shape or type.
            FerError: no child process can be started.
        """
        if isinstance(clip, str | Path):
            return self._scorer.score(clip)
        if isinstance(clip, np.ndarray) and (clip.ndim == 2 or (clip.ndim == 3 and clip.shape[2] == 3)):
            clip = clip[None]
        return self._scorer.score_frames(list(clip), rate=rate)

    def score_all(self, paths: Iterable[str | Path]) -> Iterator[Verdict]:
        """Yield the verdicts on all clips in some paths, as they are made; several clips are decoded side by side.

        Args:
            paths: videos, pictures, folders of them, or manifests (.csv).
        Raises:
            DataError: a manifest cannot be read, or there is nothing to score.
        """
        yield from self._scorer.score_many(collect(list(paths)))

    def stream(
        self, frames: Iterable[np.ndarray], *, window: int = 25, step: int = 5, rate: float = 0.0
    ) -> Iterator[Verdict]:
        """Yield a verdict after every `step` frames of a film that goes on, over its latest `window` frames.

        The film should begin with a neutral face: some models compare the person with it.

        Args:
            frames: (height, width) grey or (height, width, 3) RGB, uint8. OpenCV's cameras give BGR: take
                `frame[..., ::-1]`.
            window: number of frames that a verdict reads.
            step: number of frames from one verdict to the next.
            rate: frames per second, for the times in the verdicts; 0: unknown.
        Raises:
            ConfigError: `window` or `step` is less than 1.
            ShapeError: a frame has another shape or type.
        """
        return score_stream(self._scorer, frames, window=window, step=step, rate=rate)


def _parsed(model: str) -> tuple[str, int, str]:
    """Return name, version (0: by alias) and alias of a model's address. Raises ConfigError if it is malformed."""
    name, at, alias = model.removeprefix(_SCHEME).partition("@")
    version = ""
    if not at:
        name, _, version = name.rpartition("/")
    if not model.startswith(_SCHEME) or not name or "/" in name or not (alias or (version.isdigit() and int(version))):
        raise ConfigError(f"a model is named models:/NAME/VERSION or models:/NAME@ALIAS; got {model!r}")
    return name, int(version or 0), alias


def _settings(name: str, uri: str) -> TrackingConfig:
    try:
        return of_environment(TrackingConfig(model=name, uri=uri))
    except ValidationError as exc:
        field, reason = exc.errors()[0]["loc"][0], exc.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"the {'tracking_uri' if field == 'uri' else 'name of the model'}: {reason}") from exc


def _version_of(tracking: Tracking, alias: str) -> int:
    version = alias_version(tracking, alias)
    if version is None:
        raise RegistryError(
            f"no version of '{tracking.cfg.model}' has alias '{alias}' at {tracking.shown_uri}; "
            "'ferflow list versions' shows what there is"
        )
    return version
