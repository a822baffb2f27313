"""The workspace: one folder with everything that runs write, and the paths in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fer_core.runtime import resolve_workspace

TRIAL_SPEC = "trial.json"  # in a trial's folder: the settings of the trial


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace.

    Args:
        root: absolute path of a writable folder.
    """

    root: Path

    @classmethod
    def open(cls, setting: str) -> Workspace:
        """Return the workspace of a setting; see `runtime.resolve_workspace` for defaults and errors."""
        return cls(resolve_workspace(setting))

    @property
    def store(self) -> Path:
        """Return the folder of faces, features and training tables: content-addressed, safe to delete."""
        return self.root / "store"

    @property
    def own_manifest(self) -> Path:
        """Return the path of the workspace's own manifest."""
        return self.root / "clips.csv"

    @property
    def drawn_manifest(self) -> Path:
        """Return the path of the manifest of the demo's drawn clips, for training."""
        return self.synthetic / "clips" / "manifest.csv"

    @property
    def manifest(self) -> Path:
        """Return the path of the default manifest: the workspace's own, or the demo's if only that exists."""
        drawn = self.drawn_manifest.is_file() and not self.own_manifest.is_file()
        return self.drawn_manifest if drawn else self.own_manifest

    @property
    def card(self) -> Path:
        """Return the path of the data card, which shows faces of people."""
        return self.root / "card.html"

    @property
    def contact_sheet(self) -> Path:
        """Return the path of the contact sheet of the latest run whose faces must not leave this machine."""
        return self.root / "faces.png"

    @property
    def synthetic(self) -> Path:
        """Return the folder of the demo's drawn clips."""
        return self.root / "synthetic"

    @property
    def scored(self) -> Path:
        """Return the folder of scored batches for which no output folder was named; each has its own subfolder."""
        return self.root / "scored"

    @property
    def watched(self) -> Path:
        """Return the folder of the results of watched folders; each has its own subfolder."""
        return self.root / "watched"

    @property
    def models(self) -> Path:
        """Return the folder of candidate models; each has its own subfolder."""
        return self.root / "models"

    @property
    def lockbox(self) -> Path:
        """Return the lockbox folder: results on test sets, and how often each set was opened."""
        return self.root / "lockbox"
