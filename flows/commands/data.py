"""`ferflow data …`: manifests of clips, and drawn ones to try things on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_core.errors import ConfigError
from flows.commands.session import Session, command

if TYPE_CHECKING:
    from fer_core.clips.clip import Clip
    from fer_core.clips.manifest import Manifest

Out = Annotated[Path, typer.Option("--out", metavar="CSV", help="Manifest to write.")]
OneManifest = Annotated[Path, typer.Argument(metavar="CSV", help="Manifest.", show_default=False)]


@command()
def scan(
    session: Session,
    database: Annotated[
        str,
        typer.Argument(help="ckplus, mug, mmi, ised, afew, ravdess, cremad, folder or manifest.", show_default=False),
    ],
    root: Annotated[Path, typer.Argument(help="Its folder; for manifest, the CSV.", show_default=False)],
    out: Out,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="The reader's own; may be repeated.")
    ] = None,
) -> dict[str, Any]:
    """Find the clips of a database and write their manifest; every clip left out is counted with its reason."""
    from fer_core.clips.datasets import scan as scan_database
    from fer_core.clips.manifest import write_manifest

    found = scan_database(database, root, **_reader_options(database, option or []))
    write_manifest(found.manifest, out)
    session.table(
        f"{database}: {found.found} found, {found.kept} kept, {len(found.manifest.subjects)} subjects",
        ("emotion", "clips"),
        [(e, n) for e, n in found.class_counts().items()],
    )
    if found.dropped:
        session.table("Left out", ("reason", "clips"), list(found.dropped.items()))
    for warning in found.warnings:
        session.say(f"Note: {warning}")
    session.say(f"Written: {out}")
    return {
        "database": database,
        "out": str(out),
        "found": found.found,
        "kept": found.kept,
        "dropped": dict(found.dropped),
        "classes": found.class_counts(),
        "subjects": found.subject_counts(),
        "redistribute": found.redistribute,
        "warnings": list(found.warnings),
    }


@command()
def merge(
    session: Session,
    manifests: Annotated[list[Path], typer.Argument(metavar="CSV...", help="Manifests.", show_default=False)],
    out: Out,
) -> dict[str, Any]:
    """Join manifests into one; clips of the same name get their manifest's name before it."""
    from fer_core.clips.manifest import read_manifest, write_manifest

    merged = _joined({path: read_manifest(path) for path in manifests})
    write_manifest(merged, out)
    sources = merged.counts_by(lambda c: c.dataset or "(none)")
    _class_table(session, f"{len(merged)} clips of {len(merged.subjects)} subjects", "database", sources)
    session.say(f"Written: {out}")
    return {"out": str(out), "clips": len(merged), "subjects": len(merged.subjects), "databases": sources}


@command()
def split(session: Session, manifest: OneManifest, out: Out) -> dict[str, Any]:
    """Put every clip on a side of a subject-disjoint split, as the settings' section split says."""
    from fer_core.clips.manifest import content_digests, fingerprint, read_manifest, write_manifest
    from fer_core.clips.splits import split as split_manifest

    done = split_manifest(read_manifest(manifest), session.config.split)
    with session.progress("Reading clips") as progress:
        digest = fingerprint(done, content_digests(done, progress))
    write_manifest(done, out)
    sides = done.counts_by(lambda c: c.split or "(none)")
    _class_table(session, f"{len(done)} clips, seed {session.config.split.seed}, data {digest}", "side", sides)
    session.say(f"Written: {out}")
    return {
        "out": str(out),
        "fingerprint": digest,
        "settings": session.config.split.model_dump(mode="json"),
        "sides": sides,
    }


@command()
def diff(session: Session, before: OneManifest, after: OneManifest) -> dict[str, Any]:
    """Say what changed between two manifests: clips by content, their labels, subjects and sides."""
    from fer_core.clips.manifest import content_digests, fingerprint, read_manifest

    sides = []
    for path in (before, after):
        manifest = read_manifest(path)
        with session.progress(f"Reading {path.name}") as progress:
            digests = content_digests(manifest, progress)
        rows = {digests[c.id]: (c.id, f"{c.emotion or ''}", c.subject, f"{c.split or ''}") for c in manifest.clips}
        sides.append((fingerprint(manifest, digests), rows))
    (old_print, old), (new_print, new) = sides
    changed = [
        {"clip": new[key][0], "what": what, "before": old[key][i], "after": new[key][i]}
        for key in old.keys() & new.keys()
        for i, what in enumerate(("name", "label", "subject", "split"))
        if old[key][i] != new[key][i]
    ]
    result: dict[str, Any] = {
        "fingerprints": [old_print, new_print],
        "same_data": old_print == new_print,
        "removed": sorted(old[key][0] for key in old.keys() - new.keys()),
        "added": sorted(new[key][0] for key in new.keys() - old.keys()),
        "changed": sorted(changed, key=lambda row: (row["clip"], row["what"])),
    }
    session.say(f"{before} {old_print}")
    session.say(f"{after} {new_print}" + ("  (the same data)" if result["same_data"] else ""))
    session.say_lines(f"- {clip}" for clip in result["removed"])
    session.say_lines(f"+ {clip}" for clip in result["added"])
    session.say_lines(f"~ {r['clip']}: {r['what']} {r['before']} -> {r['after']}" for r in result["changed"])
    return result


@command()
def synth(
    session: Session,
    out: Annotated[Path, typer.Argument(help="Folder to draw into.", show_default=False)],
    subjects: Annotated[int, typer.Option(min=1, help="People; six clips each.")] = 24,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> dict[str, Any]:
    """Draw faces in motion, neutral to apex, and write them as video files and frame folders with a manifest."""
    from fer_core.clips.synthetic import synthesize

    with session.progress("Drawing clips") as progress:
        manifest = synthesize(out, subjects, seed, session.config.limits.workers, progress)
    session.say(f"{len(manifest)} synthetic clips of {len(manifest.subjects)} subjects: {out / 'manifest.csv'}")
    return {"manifest": str(out / "manifest.csv"), "clips": len(manifest), "subjects": len(manifest.subjects)}


def _joined(manifests: dict[Path, Manifest]) -> Manifest:
    """All clips; one in two manifests is kept once, if they agree on it. Raises DataError when they do not."""
    from fer_core.clips.manifest import Manifest
    from fer_core.errors import DataError

    names = Counter(c.id for manifest in manifests.values() for c in manifest.clips)
    kept: dict[Path, tuple[Path, Clip]] = {}
    for source, manifest in manifests.items():
        for clip in manifest.clips:
            first, other = kept.setdefault(clip.path, (source, clip))
            for what in ("emotion", "subject", "split"):
                had, has = getattr(other, what), getattr(clip, what)
                if had != has:
                    raise DataError(
                        f"{clip.path} has {what} '{had or ''}' in {first} and '{has or ''}' in {source}; "
                        "a clip has one. Correct one of the manifests."
                    )
    return Manifest(tuple(replace(c, id=f"{f.stem}/{c.id}") if names[c.id] > 1 else c for f, c in kept.values()))


def _class_table(session: Session, title: str, what: str, rows: dict[str, Any]) -> None:
    """Clips per emotion, a row per group."""
    emotions = list(dict.fromkeys(e for counts in rows.values() for e in counts))
    table = [(name, *(counts.get(e, 0) for e in emotions), sum(counts.values())) for name, counts in rows.items()]
    session.table(title, (what, *emotions, "all"), table)


def _reader_options(database: str, given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` texts as the reader's own types. Raises ConfigError for a value of another type."""
    from fer_core.clips.datasets import READERS, reader_options

    defaults = reader_options(database) if database in READERS else {}
    options: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        default = defaults.get(name, "")
        try:
            if not equals:
                raise ValueError
            if isinstance(default, bool):
                options[name] = {"true": True, "false": False}[text.lower()]
            else:
                options[name] = type(default)(text)
        except (KeyError, ValueError) as exc:
            kind = {bool: "true or false", int: "a whole number", float: "a number"}.get(type(default), "NAME=VALUE")
            raise ConfigError(f"'--option {item}': {name} takes {kind}") from exc
    return options
