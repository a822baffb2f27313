"""The model registry: register versions of `face-emotion`, find the champion, and load versions without running code.

A version is a pyfunc model whose artifacts are the two files of `models.bundle`. Their SHA-256 are tags of the version,
so a model cannot be replaced by somebody who can write artifacts but not the registry. Aliases: `champion` serves,
`previous` is what it replaced, `challenger` is the newest candidate. `promotion.py` moves them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fer_core.errors import DataError, RegistryError, TrackingAway
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.models.bundle import FILES, ModelBundle, bundle_digest, read_bundle
from fer_core.reports.page import USE_STATEMENT
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.packing import pack
from fer_core.tracking.parity import prove_parity
from fer_core.tracking.run import Run
from fer_core.tracking.sending import must_wait, went_away
from fer_core.tracking.version_card import version_card
from fer_core.tracking.version_files import downloaded_files

if TYPE_CHECKING:
    import torch
    from mlflow.entities import Run as MlflowRun
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

UNREGISTERED = 0  # number of a version that waits in the workspace
CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
STANDING = "out_of_fold.json"
ANSWERS = ("mean_recall", "accuracy", "weakest_recall", "recall/", "test/", "calibration/", "ms_per_clip", "parameters")
_HASH = "sha256."  # tag of a file's hash


@dataclass(frozen=True)
class RegisteredModel:
    """A downloaded version whose files are those that were registered."""

    name: str
    version: int
    bundle: ModelBundle
    folder: Path


def register(
    tracking: Tracking, bundle: ModelBundle, folder: Path, run_id: str, record: OutOfFoldRecord | None = None
) -> int:
    """Register a model as a new version with alias `challenger`, after checking its scores in a new process.

    Where MLflow does not answer, the files stay in the workspace, and `tracking.sync` registers them.

    Args:
        bundle: the model.
        folder: folder of its two files.
        run_id: the run that made it.
        record: its out-of-fold record, which the gate compares; it is logged to the run.
    Returns:
        The number of the version; UNREGISTERED while the model waits.
    Raises:
        RegistryError: the files changed, or a fresh process gives other scores.
        TrackingError: MLflow refuses.
    """
    read_bundle(folder, bundle.hashes)
    if record is not None:
        Run(tracking, run_id).log_json(record.to_json(), STANDING)
    if not must_wait(tracking, run_id):
        try:
            return register_now(tracking, bundle, folder, run_id)
        except TrackingAway as exc:
            went_away(tracking, exc)
    waits = {"folder": os.path.relpath(folder, tracking.workspace), "hashes": dict(bundle.hashes)}
    tracking.unsent.of(run_id).add({"register": {**waits, "model": tracking.cfg.model}})
    return UNREGISTERED


def version_title(version: int) -> str:
    """Return `version 3`, or that the model is not registered yet."""
    return f"version {version}" if version else "not registered yet ('ferflow sync' registers it)"


def register_now(tracking: Tracking, bundle: ModelBundle, folder: Path, run_id: str) -> int:
    """Register a model; see `register`. A model that this run has registered already is not registered twice.

    Raises:
        RegistryError: a fresh process gives other scores.
        TrackingError: MLflow does not answer or refuses.
    """
    name, client = tracking.cfg.model, tracking.client
    with mlflow_errors(f"versions of '{name}'"):
        made_before = client.search_model_versions(f"name='{name}' and run_id='{run_id}'")
    for version in made_before:
        if version.tags.get("model_digest") == bundle.digest:
            with mlflow_errors(f"registering '{name}'"):
                client.set_registered_model_alias(name, CHALLENGER, version.version)
            return int(version.version)
    facts = bundle.facts
    with tempfile.TemporaryDirectory(prefix="ferflow-register-") as temporary:
        packed = pack(folder, bundle, Path(temporary) / "model", name)
        worst = prove_parity(packed, bundle)
        for compiled in list(packed.rglob("__pycache__")):  # left by the proof; bytecode names this machine's paths
            shutil.rmtree(compiled)
        tags = {f"{_HASH}{file}": digest for file, digest in bundle.hashes.items()}
        tags |= {
            "model_digest": bundle.digest,
            "data_fingerprint": facts.data_fingerprint,
            "synthetic": str(facts.synthetic).lower(),
            "model": facts.model,
            "format": str(bundle.record.format),
            "parity": f"{worst:.1e}",
        }
        with mlflow_errors(f"registering '{name}'"):
            run = client.get_run(run_id)
            logged = client.create_logged_model(
                tracking.experiment_id, name=name, source_run_id=run_id, tags=tags, params=run.data.params
            )
            client.log_model_artifacts(logged.model_id, str(packed))
            client.finalize_logged_model(logged.model_id, "READY")
            _link(tracking, run, logged.model_id)
            _ensure_model(tracking)
            made = client.create_model_version(
                name, f"models:/{logged.model_id}", run_id=run_id, tags=tags, model_id=logged.model_id
            )
            card = version_card(name, int(made.version), bundle, run)
            client.update_model_version(name, made.version, card)
            client.set_logged_model_tags(logged.model_id, {"version": str(made.version)})
            client.set_registered_model_alias(name, CHALLENGER, made.version)
    log.info("registered version %s of '%s'; a fresh process scores alike to %.0e", made.version, name, worst)
    return int(made.version)


def champion_version(tracking: Tracking) -> int | None:
    """Return the champion's version; None if there is none. Raises TrackingError if MLflow cannot be reached."""
    return alias_version(tracking, CHAMPION)


def challenger_version(tracking: Tracking) -> int:
    """Return the version of the newest candidate.

    Raises:
        RegistryError: there is none.
    """
    version = alias_version(tracking, CHALLENGER)
    if version is None:
        raise RegistryError(
            f"no version of '{tracking.cfg.model}' has alias '{CHALLENGER}'; make a candidate with 'ferflow train'"
        )
    return version


def version_to_promote(tracking: Tracking) -> int:
    """Return the version of the newest candidate; if there is none, that of the champion.

    Raises:
        RegistryError: there is neither.
    """
    champion = champion_version(tracking)
    if champion is not None and alias_version(tracking, CHALLENGER) is None:
        return champion
    return challenger_version(tracking)


def adopted_version(tracking: Tracking) -> int | None:
    """Return the newest version that was adopted, not trained; None if there is none."""
    name = tracking.cfg.model
    with mlflow_errors(f"versions of '{name}'", RegistryError):
        found = tracking.client.search_model_versions(f"name='{name}' and tags.model='adopted'")
    return max((int(version.version) for version in found), default=None)


def load_champion(tracking: Tracking, device: torch.device | None = None) -> RegisteredModel:
    """Load the champion. Its files are checked against the registry, and nothing in them is executed.

    Args:
        device: device of the backbone; None: the CPU.
    Raises:
        RegistryError: there is no champion, or its files are not the registered ones.
    """
    version = champion_version(tracking)
    if version is None:
        name = tracking.cfg.model
        raise RegistryError(
            f"no version of '{name}' has alias '{CHAMPION}' at {tracking.shown_uri}; "
            "make one with 'ferflow train' or, without any clips, 'ferflow adopt fer2013', then 'ferflow promote'"
        )
    return load_version(tracking, version, device)


def load_version(tracking: Tracking, version: int, device: torch.device | None = None) -> RegisteredModel:
    """Load a version like `load_champion`. The workspace keeps a copy, which is checked at every load.

    Raises:
        RegistryError: there is no such version, or its files are not the registered ones.
    """
    name = tracking.cfg.model
    found = registered_version(tracking, version)
    hashes = {file: found.tags.get(f"{_HASH}{file}", "") for file in FILES}
    if not all(hashes.values()):
        raise RegistryError(f"version {version} of '{name}' has no hashes of its files; it was not made by ferflow")
    kept = tracking.workspace / "models" / "registered" / bundle_digest(hashes)  # no MLflow text in the name
    if kept.is_dir():
        try:
            return RegisteredModel(name, version, read_bundle(kept, hashes, device), kept)
        except RegistryError as exc:
            log.warning("the copy of version %d in the workspace is unfit (%s); fetched again", version, exc)
            shutil.rmtree(kept)
    with downloaded_files(tracking, found) as folder:
        bundle = read_bundle(folder, hashes, device)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.replace(kept)
        except OSError:  # another process was first, with the same content
            bundle = read_bundle(kept, hashes, device)
    return RegisteredModel(name, version, bundle, kept)


def run_text(tracking: Tracking, version: int, file: str, what: str) -> str | None:
    """Return the text of a file of the run that registered a version; None if the run has no such file.

    Args:
        what: what the file holds, for messages.
    Raises:
        RegistryError: there is no such version, or MLflow cannot give the file.
    """
    run_id = registered_version(tracking, version).run_id or ""
    with mlflow_errors(f"{what} of version {version}", RegistryError):
        if not run_id or file not in {found.path for found in tracking.client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return Path(tracking.client.download_artifacts(run_id, file, folder)).read_text()


def load_out_of_fold_record(tracking: Tracking, version: int) -> OutOfFoldRecord | None:
    """Load the out-of-fold record of a version; None if it was registered without one.

    Raises:
        RegistryError: there is no such version, or its record is damaged.
    """
    text = run_text(tracking, version, STANDING, "out-of-fold record")
    if text is None:
        return None
    try:
        return OutOfFoldRecord.from_json(json.loads(text))
    except (DataError, ValueError) as exc:
        raise RegistryError(f"the out-of-fold record of version {version} is damaged ({exc}); train it again") from exc


def alias_version(tracking: Tracking, alias: str) -> int | None:
    """Return the version with an alias; `search_model_versions` does not return aliases (mlflow#16734)."""
    from mlflow.exceptions import MlflowException

    with mlflow_errors(f"alias '{alias}' of '{tracking.cfg.model}'"):
        try:
            return int(tracking.client.get_model_version_by_alias(tracking.cfg.model, alias).version)
        except MlflowException as exc:
            if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def registered_version(tracking: Tracking, version: int) -> ModelVersion:
    """Return MLflow's entry of a version. Raises RegistryError if there is none."""
    from mlflow.exceptions import MlflowException

    name, client = tracking.cfg.model, tracking.client
    with mlflow_errors(f"version {version} of '{name}'", RegistryError):
        try:
            return client.get_model_version(name, str(version))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            there = sorted(int(v.version) for v in client.search_model_versions(f"name='{name}'"))
            remedy = f"there are {', '.join(map(str, there))}" if there else "make one with 'ferflow train'"
            raise RegistryError(
                f"version {version} of '{name}' is not there at {tracking.shown_uri}; {remedy}"
            ) from exc


def _ensure_model(tracking: Tracking) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client.create_registered_model(tracking.cfg.model, description=" ".join(USE_STATEMENT))
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _link(tracking: Tracking, run: MlflowRun, model_id: str) -> None:
    """Give the logged model the metrics of the run that made it, with their dataset, and name it as the run's output.

    Metrics keep their time and step, so that those of the run stay as they are.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    client, run_id = tracking.client, run.info.run_id
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = {"dataset_name": inputs[0].dataset.name, "dataset_digest": inputs[0].dataset.digest} if inputs else {}
    of_model = {"model_id": model_id, "run_id": run_id, **data}
    last = (client.get_metric_history(run_id, name)[-1] for name in run.data.metrics if name.startswith(ANSWERS))
    metrics = [Metric(m.key, m.value, m.timestamp, m.step, **of_model) for m in last]
    client.log_batch(run_id, metrics=metrics)
    client.log_outputs(run_id, models=[LoggedModelOutput(model_id, step=0)])
