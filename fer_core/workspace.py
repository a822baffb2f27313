"""The workspace: one folder of everything a run makes, and where in it each thing lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fer_core.features.store import FeatureStore
from fer_core.preprocess.store import FacesStore
from fer_core.runtime import resolve_workspace

TRIAL_SPEC = "trial.json"  # in a trial's folder: what it is to do


@dataclass(frozen=True)
class Workspace:
    """A workspace's folders.

    Args:
        root: absolute, writable.
    """

    root: Path

    @classmethod
    def open(cls, setting: str) -> Workspace:
        """The workspace of a setting; see `runtime.resolve_workspace` for defaults and errors."""
        return cls(resolve_workspace(setting))

    @property
    def store(self) -> Path:
        """Faces, features, training tables: content-addressed, safe to delete."""
        return self.root / "store"

    @property
    def faces(self) -> FacesStore:
        return FacesStore(self.store)

    @property
    def features(self) -> FeatureStore:
        return FeatureStore(self.store)

    @property
    def own_manifest(self) -> Path:
        """Path of the workspace's own manifest."""
        return self.root / "clips.csv"

    @property
    def drawn_manifest(self) -> Path:
        """The demo's drawn clips, for training."""
        return self.synthetic / "clips" / "manifest.csv"

    @property
    def manifest(self) -> Path:
        """The manifest of a run that names none: the workspace's own, else that of the demo."""
        drawn = self.drawn_manifest.is_file() and not self.own_manifest.is_file()
        return self.drawn_manifest if drawn else self.own_manifest

    @property
    def card(self) -> Path:
        """The data card, with faces of the people in it."""
        return self.root / "card.html"

    @property
    def contact_sheet(self) -> Path:
        """Faces of the latest run whose databases let no picture leave."""
        return self.root / "faces.png"

    @property
    def synthetic(self) -> Path:
        """Drawn clips of the demo."""
        return self.root / "synthetic"

    @property
    def scored(self) -> Path:
        """A folder per batch whose folder nobody named."""
        return self.root / "scored"

    @property
    def models(self) -> Path:
        """A folder per candidate."""
        return self.root / "models"

    @property
    def lockbox(self) -> Path:
        """The lockbox folder: results on test sets, and how often each was opened."""
        return self.root / "lockbox"
