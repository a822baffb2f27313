from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fer_core.config import TrackingConfig
from fer_core.models.bundle import ModelBundle
from fer_core.tracking.connection import Tracking, connect
from fer_core.tracking.run import start_run
from tests.saved_models import small_bundle


@pytest.fixture(scope="session")
def tracking_workspace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tracking workspace")  # the space is meant


@pytest.fixture(scope="session")
def tracking(tracking_workspace) -> Tracking:
    """MLflow without a server: SQLite in a workspace, made once."""
    return connect(TrackingConfig(), tracking_workspace)


@dataclass(frozen=True)
class Registered:
    """Two versions of a model on a real server, nobody champion yet."""

    tracking: Tracking
    bundles: tuple[ModelBundle, ModelBundle]
    versions: tuple[int, int]
    first_files: frozenset[str]  # of the first version, as registration left them: loading it adds bytecode in place

    @property
    def aliases(self) -> dict[str, int]:
        model = self.tracking.client.get_registered_model(self.tracking.cfg.model)
        return {alias: int(version) for alias, version in model.aliases.items()}

    def artifacts(self, version: int) -> Path:
        """Where the server keeps a version's files."""
        name = self.tracking.cfg.model
        source = self.tracking.client.get_model_version_download_uri(name, str(version))
        return Path(source.removeprefix("file://"))


@pytest.fixture(scope="session")
def registered(mlflow_url, tmp_path_factory) -> Registered:
    from fer_core.tracking.registry import register

    tracking = connect(TrackingConfig(uri=mlflow_url), tmp_path_factory.mktemp("registry"))
    bundles, versions = [], []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("candidate")
        bundles.append(small_bundle(folder, seed=seed))
        with start_run(tracking, f"candidate {seed}") as run, pytest.MonkeyPatch.context() as patch:
            if seed:  # one proof is enough; it takes a process of its own
                patch.setattr("fer_core.tracking.registry.prove_parity", lambda *_: 0.0)
            versions.append(register(tracking, bundles[-1], folder, run.id))
    made = Registered(tracking, (bundles[0], bundles[1]), (versions[0], versions[1]), frozenset())
    folder = made.artifacts(versions[0])
    files = frozenset(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return replace(made, first_files=files)


@pytest.fixture
def no_champion(registered):
    """No version is champion, the second is challenger; whatever a test does to the aliases is undone."""
    client, name = registered.tracking.client, registered.tracking.cfg.model
    before = registered.aliases
    for alias in before:
        client.delete_registered_model_alias(name, alias)
    client.set_registered_model_alias(name, "challenger", str(registered.versions[1]))
    yield
    for alias in registered.aliases:
        client.delete_registered_model_alias(name, alias)
    for alias, version in before.items():
        client.set_registered_model_alias(name, alias, str(version))
