"""The model registry: versions of `face-emotion`, who is champion, and the door that loads one without running it.

A version is a pyfunc model whose artifacts are the two files of `model.bundle`; their SHA-256 are tags of the version,
so that whoever can write artifacts, but not the registry, cannot slip in another model. Aliases: `champion` serves,
`previous` is what it replaced, `challenger` is the newest candidate. An alias moves last, after its files were proven.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fer_core.errors import DataError, FerError, RegistryError
from fer_core.evaluation.gate import OutOfFoldRecord
from fer_core.models.bundle import FILES, ModelBundle, bundle_digest, read_bundle
from fer_core.reports.page import USE_STATEMENT
from fer_core.tracking.connection import Tracking, mlflow_errors, without_secrets
from fer_core.tracking.packing import pack
from fer_core.tracking.parity import prove_parity
from fer_core.tracking.run import Run

if TYPE_CHECKING:
    import torch
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.entities.model_registry import RegisteredModel as RegisteredModelEntity

    from fer_core.experiments.version_evaluation import VersionEvaluation

log = logging.getLogger(__name__)

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
LOCK_S = 120  # after which a promotion that was killed no longer keeps others out; a living one takes seconds
STANDING = "out_of_fold.json"
EVALUATED, STAYS = "evaluation.run", "stress.least_stays"  # tags of an evaluated version
_HASH = "sha256."  # tag of a file's hash
# What packing makes, what `mlflow.pyfunc.load_model` leaves in a store on this machine (`registered_model_meta`), and
# nothing else: a pickle beside them would be loaded by MLflow, so it is refused by us.
_TOP_LEVEL = {
    "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "pyfunc.py", "code", "artifacts",
    "registered_model_meta",
}  # fmt: skip


@dataclass(frozen=True)
class RegisteredModel:
    """A version that was downloaded and found to be what was registered."""

    name: str
    version: int
    bundle: ModelBundle
    folder: Path


def register(
    tracking: Tracking, bundle: ModelBundle, folder: Path, run_id: str, standing: OutOfFoldRecord | None = None
) -> int:
    """Make a version of a model, proven to score the same in a fresh process; it becomes `challenger`.

    Args:
        bundle: the model; `folder`: its two files.
        run_id: the run that made it.
        standing: its out-of-fold record, which the gate compares; logged to the run.
    Returns:
        The version's number.
    Raises:
        RegistryError: the files changed, or a fresh process gives other scores.
        TrackingError: MLflow refuses.
    """
    name, client = tracking.cfg.model, tracking.client
    read_bundle(folder, bundle.hashes)
    facts = bundle.facts
    with tempfile.TemporaryDirectory(prefix="ferflow-register-") as temporary:
        packed = pack(folder, bundle, Path(temporary) / "model", name)
        worst = prove_parity(packed, bundle)
        for compiled in list(packed.rglob("__pycache__")):  # left by the proof; bytecode names this machine's paths
            shutil.rmtree(compiled)
        if standing is not None:
            Run(tracking, run_id).log_json(standing.to_json(), STANDING)
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
            logged = client.create_logged_model(tracking.experiment_id, name=name, source_run_id=run_id, tags=tags)
            client.log_model_artifacts(logged.model_id, str(packed))
            client.finalize_logged_model(logged.model_id, "READY")
            _ensure_model(tracking)
            made = client.create_model_version(
                name, f"models:/{logged.model_id}", run_id=run_id, tags=tags, model_id=logged.model_id,
                description=_description(facts.synthetic),
            )  # fmt: skip
            client.set_registered_model_alias(name, CHALLENGER, made.version)
    log.info("registered version %s of '%s'; a fresh process scores alike to %.0e", made.version, name, worst)
    return int(made.version)


def champion_version(tracking: Tracking) -> int | None:
    """The champion's number; None when there is none. Raises TrackingError when MLflow is away."""
    return _alias(tracking, CHAMPION)


def challenger_version(tracking: Tracking) -> int:
    """The newest candidate's number.

    Raises:
        RegistryError: there is none.
    """
    version = _alias(tracking, CHALLENGER)
    if version is None:
        raise RegistryError(
            f"no version of '{tracking.cfg.model}' has alias '{CHALLENGER}'; make a candidate with 'ferflow train'"
        )
    return version


def version_to_promote(tracking: Tracking) -> int:
    """The newest candidate's number; the champion's where no other version is a candidate.

    Raises:
        RegistryError: there is neither.
    """
    champion = champion_version(tracking)
    if champion is not None and _alias(tracking, CHALLENGER) is None:
        return champion
    return challenger_version(tracking)


def load_champion(tracking: Tracking, device: torch.device | None = None) -> RegisteredModel:
    """The champion, its two files checked against the registry, nothing in them executed.

    Args:
        device: of the convolutions; None: the CPU.
    Raises:
        RegistryError: there is none, or its files are not what was registered.
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
    """Any version, likewise; kept in the workspace, checked again at every load.

    Raises:
        RegistryError: there is no such version, or its files are not what was registered.
    """
    name = tracking.cfg.model
    found = _version(tracking, version)
    hashes = {file: found.tags.get(f"{_HASH}{file}", "") for file in FILES}
    if not all(hashes.values()):
        raise RegistryError(f"version {version} of '{name}' has no hashes of its files; it was not made by ferflow")
    kept = tracking.workspace / "models" / "registered" / bundle_digest(hashes)  # no text of MLflow's names a folder
    if kept.is_dir():
        try:
            return RegisteredModel(name, version, read_bundle(kept, hashes, device), kept)
        except RegistryError as exc:
            log.warning("the copy of version %d in the workspace is unfit (%s); fetched again", version, exc)
            shutil.rmtree(kept)
    with _downloaded(tracking, found) as folder:
        bundle = read_bundle(folder, hashes, device)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.replace(kept)
        except OSError:  # another process was first, with the same content
            bundle = read_bundle(kept, hashes, device)
    return RegisteredModel(name, version, bundle, kept)


def load_out_of_fold_record(tracking: Tracking, version: int) -> OutOfFoldRecord | None:
    """The out-of-fold record of a version; None when it was registered without one.

    Raises:
        RegistryError: there is no such version, or its record is damaged.
    """
    run_id = _version(tracking, version).run_id or ""
    with mlflow_errors(f"out-of-fold record of version {version}", RegistryError):
        if not run_id or STANDING not in {file.path for file in tracking.client.list_artifacts(run_id)}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = tracking.client.download_artifacts(run_id, STANDING, folder)
            text = Path(path).read_text()
    try:
        return OutOfFoldRecord.from_json(json.loads(text))
    except (DataError, ValueError) as exc:
        raise RegistryError(f"the out-of-fold record of version {version} is damaged ({exc}); train it again") from exc


def note_evaluation(tracking: Tracking, version: int, run_id: str, found: VersionEvaluation) -> None:
    """Keep with a version what an evaluation found: as tags, and in the words of its description.

    Args:
        run_id: of the evaluation.
    Raises:
        RegistryError: there is no such version. TrackingError: MLflow refuses.
    """
    name, client = tracking.cfg.model, tracking.client
    before = _version(tracking, version)
    numbers, told = found.evaluation, before.description or ""
    tags = {EVALUATED: run_id, "evaluation.mean_recall": f"{numbers.mean_recall.value:.4f}"}
    line = (
        f"Evaluated on {numbers.n_clips} clips of {numbers.n_subjects} other people"
        f"{', some drawn or rendered' if found.synthetic else ''}: mean recall {numbers.mean_recall} %"
    )
    if found.stress:
        worst = min(found.stress, key=lambda s: s.stays.value)
        tags[STAYS] = f"{worst.stays.value:.4f}"
        line += f"; of the verdicts {100 * worst.stays.value:.0f} % stay when a clip is {worst.what}, the worst change"
    with mlflow_errors(f"version {version} of '{name}'"):
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        client.update_model_version(name, str(version), f"{told}\n\n{line} (run {run_id}).".strip())


def least_stays(tracking: Tracking, version: int) -> float:
    """Smallest share of a version's verdicts that stayed under a change, in its newest `evaluate --stress`; NaN
    without one. Raises RegistryError when there is no such version."""
    try:
        return float(_version(tracking, version).tags.get(STAYS, "nan"))
    except ValueError as exc:
        raise RegistryError(f"tag {STAYS} of version {version} is no number; evaluate it again") from exc


def promote(tracking: Tracking, version: int, *, replacing: int | None, note: str = "") -> None:
    """Make a version the champion, its files loaded and checked before any alias moves.

    Args:
        replacing: the champion that the version was judged against; None: there was none.
        note: the gate's verdict, kept as a tag.
    Raises:
        RegistryError: its files are not what was registered, another promotion is under way, or the champion is no
            longer the one it was judged against.
    """
    load_version(tracking, version)
    name, client = tracking.cfg.model, tracking.client
    with _alone(tracking):
        now = champion_version(tracking)
        if now != replacing:
            was, became = (f"version {v}" if v else "nobody" for v in (replacing, now))
            raise RegistryError(
                f"version {version} was judged against {was}, but the champion of '{name}' is now {became}; "
                "promote it again"
            )
        if now == version:
            return
        with mlflow_errors(f"promoting version {version}", RegistryError):
            client.set_model_version_tag(name, str(version), "promotion", note[:4900] or "promoted")
            if now is not None:
                client.set_registered_model_alias(name, PREVIOUS, str(now))
            client.set_registered_model_alias(name, CHAMPION, str(version))
            if _alias(tracking, CHALLENGER) == version:
                client.delete_registered_model_alias(name, CHALLENGER)
        _check_champion(tracking, version)
    log.info("version %d of '%s' is champion%s", version, name, f", after version {now}" if now else "")


def rollback(tracking: Tracking) -> tuple[int, int]:
    """Make the previous champion champion again; the two change places.

    Returns:
        The champion's version now, and the one that was.
    Raises:
        RegistryError: there is no previous one, or its files are not what was registered.
    """
    name, client = tracking.cfg.model, tracking.client
    with _alone(tracking):
        now, before = champion_version(tracking), _alias(tracking, PREVIOUS)
        if now is None or before is None or now == before:
            raise RegistryError(f"'{name}' has no previous champion to go back to; promote a version instead")
        load_version(tracking, before)
        with mlflow_errors(f"rolling back to version {before}", RegistryError):
            client.set_registered_model_alias(name, CHAMPION, str(before))
            client.set_registered_model_alias(name, PREVIOUS, str(now))
        _check_champion(tracking, before)
    log.info("version %d of '%s' is champion again, after version %d", before, name, now)
    return before, now


def _check_champion(tracking: Tracking, version: int) -> None:
    """Whoever moves the alias by other means takes no lock."""
    if (now := champion_version(tracking)) != version:
        raise RegistryError(
            f"version {version} was made champion, but at once {f'version {now}' if now else 'nobody'} took its place; "
            "somebody else moves the alias too"
        )


@contextmanager
def _alone(tracking: Tracking) -> Iterator[None]:
    """One promotion at a time, of all workspaces that share the registry.

    The lock is a registered model: its name is unique in the registry's database, so only one of those who make it
    at the same moment gets it.

    Raises:
        RegistryError: another promotion is under way, or took over because this one took longer than `LOCK_S`.
    """
    from mlflow.exceptions import MlflowException

    name, client, owner = f"{tracking.cfg.model}.promotion", tracking.client, secrets.token_hex(16)
    busy = RegistryError(
        f"another promotion of '{tracking.cfg.model}' is under way; look at its result, then try again. One that was "
        f"killed holds the registry for {LOCK_S} s"
    )

    def holder() -> RegisteredModelEntity | None:
        try:
            return client.get_registered_model(name)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    with mlflow_errors(f"locking '{tracking.cfg.model}'", RegistryError):
        found = holder()
        if found is not None:
            if time.time() - found.creation_timestamp / 1000 < LOCK_S:
                raise busy
            client.delete_registered_model(name)
        try:
            client.create_registered_model(name, description=f"Lock of a promotion; gone when it ends. {owner}")
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            raise busy from exc
    try:
        yield
    finally:
        with mlflow_errors(f"unlocking '{tracking.cfg.model}'", RegistryError):
            found = holder()
            if found is None or not found.description.endswith(owner):
                raise RegistryError(
                    f"this promotion took longer than {LOCK_S} s, and another took over; look at who is champion"
                )
            client.delete_registered_model(name)


def _alias(tracking: Tracking, alias: str) -> int | None:
    """The version an alias is on. `search_model_versions` returns no aliases (mlflow#16734), so it is asked for."""
    from mlflow.exceptions import MlflowException

    with mlflow_errors(f"alias '{alias}' of '{tracking.cfg.model}'"):
        try:
            return int(tracking.client.get_model_version_by_alias(tracking.cfg.model, alias).version)
        except MlflowException as exc:
            if exc.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def _version(tracking: Tracking, version: int) -> ModelVersion:
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


def _description(synthetic: bool) -> str:
    warning = "Trained on synthetic faces: unproven on real people. " if synthetic else ""
    return warning + " ".join(USE_STATEMENT)


@contextmanager
def _downloaded(tracking: Tracking, version: ModelVersion) -> Iterator[Path]:
    """The two files of a version in a folder of the workspace; the version holds nothing that does not belong."""
    where = f"version {version.version} of '{version.name}'"
    parent = tracking.workspace / "models"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=parent) as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        with _fetching(where):
            source = tracking.client.get_model_version_download_uri(version.name, version.version)
            _refuse_address(where, source)
            top, inner = _names(tracking, source), _names(tracking, f"{source}/artifacts")
            extra, missing = (top - _TOP_LEVEL) | (inner - set(FILES)), set(FILES) - inner
            if extra or missing:
                raise RegistryError(
                    f"{where} is not as it was registered: found also {sorted(extra)}, missing {sorted(missing)}"
                )
            for name in FILES:
                _fetch(tracking, f"{source}/artifacts/{name}", Path(temporary)).replace(folder / name)
        yield folder


def _refuse_address(where: str, source: str) -> None:
    """Refuse files at an address of the version's own choosing: asking there tells anybody of this machine."""
    if urlsplit(source).scheme in ("http", "https", "ftp", "sftp"):
        raise RegistryError(
            f"{where} says that its files are at {without_secrets(source)[:200]}, which is not MLflow's store; "
            "do not use it, register the model again"
        )


@contextmanager
def _fetching(where: str) -> Iterator[None]:
    """Whatever a store answers, in one sentence; each kind (s3, gs ...) has a package with errors of its own."""
    try:
        with mlflow_errors(where, RegistryError):
            yield
    except FerError:
        raise
    except ImportError as exc:
        raise RegistryError(
            f"{where} is in a store that needs a package which is not here ({exc}); install it, or have MLflow serve "
            "artifacts"
        ) from exc
    except Exception as exc:
        reason = " ".join(str(exc).split())[:300]
        raise RegistryError(f"{where} cannot be fetched ({type(exc).__name__}: {reason})") from exc


def _names(tracking: Tracking, uri: str) -> set[str]:
    import mlflow.artifacts

    return {Path(f.path).name for f in mlflow.artifacts.list_artifacts(artifact_uri=uri, tracking_uri=tracking.uri)}


def _fetch(tracking: Tracking, uri: str, folder: Path) -> Path:
    import mlflow.artifacts

    into = tempfile.mkdtemp(dir=folder)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=into, tracking_uri=tracking.uri))
