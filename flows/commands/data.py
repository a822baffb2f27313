"""`ferflow data …`: manifests of clips, and drawn ones to try things on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer_core.errors import ConfigError, DataError
from flows.commands.session import FollowLinks, Session, command

if TYPE_CHECKING:
    from fer_core.clips.datasets import Scan
    from fer_core.clips.lookalikes import Likeness
    from fer_core.clips.manifest import Manifest
    from fer_core.config import LimitsConfig

NAMED = 10  # files left out that a scan names on the terminal
Out = Annotated[Path, typer.Option("--out", metavar="CSV", help="Manifest to write.")]
OneManifest = Annotated[Path, typer.Argument(metavar="CSV", help="The manifest.", show_default=False)]


_BALANCE = "Of each emotion, keep no more clips of a database than the one with the fewest has."


@command(reads=("classes",))
def scan(
    session: Session,
    database: Annotated[
        str,
        typer.Argument(
            help="A database: ckplus, mug, mmi, ised, afew, ravdess or cremad; folder: your own folders of clips; "
            "manifest: a CSV that lists clips.",
            show_default=False,
        ),
    ],
    root: Annotated[
        Path, typer.Argument(help="Folder of the database; for manifest, the CSV file.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="CSV", help="Manifest to write. Needed, except with --dry-run.")
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="For folder: how the paths of clips are built, e.g. '{subject}/{label}/*'. {split} and other words in "
            "braces are read too; * stands for any part of a name, ** for any folders.",
        ),
    ] = "",
    labels: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="For folder and manifest: translation of your label words, as CSV lines 'word,label' or YAML.",
        ),
    ] = "",
    labels_from: Annotated[
        str,
        typer.Option(
            metavar="CSV", help="For folder: a table that gives the clips' label, subject, split, apex or group_*."
        ),
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="Column of that table that says which clips a row is about: clip (default), subject, or a word of the "
            "pattern.",
        ),
    ] = "",
    keep_ids: Annotated[
        bool, typer.Option("--keep-ids", help="Treat 001, 1 and 1.0, or S1 and s1, as different people.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show how the first ten clips are read; write nothing.")
    ] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="An option of this database (see its page in docs/databases); may be repeated.",
        ),
    ] = None,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Find the clips of a database or of your own folders and write a manifest that lists them.

    Whatever is left out is counted, with the reason.
    """
    from fer_core.clips.datasets import scan as scan_database
    from fer_core.clips.manifest import write_manifest
    from fer_core.clips.spelling import joined_text

    if out is None and not dry_run:
        raise ConfigError("name the manifest to write with --out clips.csv, or look first with --dry-run")
    flags = {
        "follow_links": follow_links, "pattern": pattern, "labels": labels, "labels_from": labels_from, "by": by,
        "keep_ids": keep_ids,
    }  # fmt: skip
    if by and not labels_from:
        raise ConfigError("--by names a column of the table that --labels-from names; give both")
    options = _reader_options(database, option or []) | {name: value for name, value in flags.items() if value}
    found = scan_database(database, root, classes=session.config.class_list, **options)
    if dry_run or out is None:
        return _show_readings(session, database, found)
    write_manifest(found.manifest, out)
    clips, people = found.manifest.clips, len(found.manifest.subjects)
    rows = [(e, n, len({c.subject for c in clips if c.emotion == e} - {""})) for e, n in found.class_counts().items()]
    title = f"{database}: {found.found} found, {found.kept} kept, {found.found - found.kept} left out"
    session.table(title, ("emotion", "clips", "subjects"), [*rows, ("all", found.kept, people)])
    if found.dropped:
        session.table("Left out", ("reason", "clips"), list(found.dropped.items()))
        session.say_lines(f"Left out: {name} ({reason})" for name, reason in found.left_out[:NAMED])
        if (more := len(found.left_out) - NAMED) > 0:
            session.say(f"... and {more} more, all of them under left_out with --json")
    counts = (f"{subject or '(unknown)'} {n}" for subject, n in found.subject_counts().items())
    session.say(f"Clips of each subject: {', '.join(counts)}")
    if found.as_published:
        session.say(f"As published: {', '.join(found.as_published)}")
    session.say_lines(f"Joined, {line} (--keep-ids keeps them apart)" for line in joined_text(found.joined))
    session.say_lines(f"Note: {warning}" for warning in found.warnings)
    session.say(f"redistribute: {'yes' if found.redistribute else 'no (pictures of faces stay on this machine)'}")
    session.say(f"Written: {out}")
    session.next("what is in it, on one page", "data", "card", out)
    return {
        "database": database,
        "out": str(out),
        "found": found.found,
        "kept": found.kept,
        "dropped": dict(found.dropped),
        "left_out": [{"path": path, "reason": reason} for path, reason in found.left_out],
        "classes": found.class_counts(),
        "subjects": found.subject_counts(),
        "joined": {name: list(others) for name, others in found.joined.items()},
        "redistribute": found.redistribute,
        "as_published": list(found.as_published),
        "warnings": list(found.warnings),
    }


@command(reads=("classes",))
def merge(
    session: Session,
    manifests: Annotated[list[Path], typer.Argument(metavar="CSV...", help="The manifests.", show_default=False)],
    out: Out,
    per_source: Annotated[
        int | None, typer.Option(min=1, help="Keep at most this many clips of each database.")
    ] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Keep at most this many clips of each emotion of each database.")
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help=_BALANCE)] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing which clips are left out.")] = 0,
) -> dict[str, Any]:
    """Join several manifests into one; each clip is kept once. Large databases can be thinned."""
    from fer_core.clips.combine import merge as merge_manifests
    from fer_core.clips.manifest import read_manifest, write_manifest

    given = [read_manifest(path, classes=session.config.class_list) for path in manifests]
    merged = merge_manifests(given, per_source=per_source, per_class=per_class, balance=balance, seed=seed)
    write_manifest(merged, out)
    sources = merged.counts_by(lambda c: c.dataset or "(none)")
    left_out = len({c.path for m in given for c in m.clips}) - len(merged)
    _class_table(session, f"{len(merged)} clips of {len(merged.subjects)} subjects", "database", sources)
    if left_out:
        session.say(f"Left out by caps and balance: {left_out} clips")
    session.say(f"Written: {out}")
    session.next("sides that share no person", "data", "split", out, "--out", "SPLIT.csv")
    return {
        "out": str(out),
        "clips": len(merged),
        "left_out": left_out,
        "subjects": len(merged.subjects),
        "databases": sources,
    }


@command(reads=("split", "limits", "classes"))
def split(
    session: Session,
    manifest: OneManifest,
    out: Out,
    every: Annotated[
        bool,
        typer.Option("--every", help="With split.scheme folds or one_subject_out: write every split, OUT-0.csv ..."),
    ] = False,
    people: Annotated[
        bool,
        typer.Option(
            help="Compare faces to find persons with two ids. Takes about a second for each of two clips per person."
        ),
    ] = True,
    follow_links: FollowLinks = False,
) -> dict[str, Any]:
    """Split the clips into train, validation and test, so that no person is in two of them.

    The settings split.* say how. Refused where two files on two sides hold the same recording.
    """
    from fer_core.clips.leaks import check_leaks
    from fer_core.clips.manifest import read_manifest
    from fer_core.clips.split_record import write_split
    from fer_core.clips.splits import every_split
    from fer_core.clips.splits import split as split_manifest
    from fer_core.preprocess.perceptual_hash import hash_clips

    cfg, limits = session.config.split, session.following(follow_links).limits
    official = cfg.scheme == "official"  # whose sides are in the manifest, for people nobody named
    clips = read_manifest(
        manifest,
        classes=session.config.class_list,
        ignore_split=not official,
        subject="none" if official else "required",
    )
    if every and cfg.scheme not in ("folds", "one_subject_out"):
        raise ConfigError(f"--every needs split.scheme folds or one_subject_out, but it is {cfg.scheme}")
    splits = every_split(clips, cfg) if every else [split_manifest(clips, cfg)]
    store = session.workspace / "store"
    with session.progress("Looking at clips") as progress:
        seen = hash_clips(clips.clips, limits, store, progress)
    report = check_leaks(splits[0], seen.digests, seen.hashes, cfg.allow_pairs)
    report.refuse()
    alike = _lookalikes(session, clips, limits, store) if people else []
    records = {}
    for fold, done in enumerate(splits):
        path = out.with_stem(f"{out.stem}-{fold}") if every else out
        records[path] = write_split(done, path, cfg.model_copy(update={"fold": fold}) if every else cfg, seen.digests)
    for path, record in records.items():
        _class_table(session, f"{path}: seed {cfg.seed}, data {record.fingerprint}", "side", record.clips)
    session.say_lines(f"Note: clip '{name}' was not compared: {why}" for name, why in seen.unseen.items())
    session.say_lines(f"Note: {pair}" for pair in alike)
    if report.repeated:
        session.say(f"Note: {len(report.repeated)} clips repeat another's content; each counts twice")
    session.say(f"Written: {', '.join(map(str, records))}; beside each, how it was made (.split.json)")
    session.next("the best settings", "search", next(iter(records)))
    return {
        "splits": [{"out": str(path), **asdict(record)} for path, record in records.items()],
        "compared": report.n_hashed,
        "not_compared": dict(seen.unseen),
        "repeated": report.repeated,
        "allowed": [(pair.first, pair.second) for pair in report.cleared],
        "lookalikes": [asdict(pair) for pair in alike],
    }


@command(reads=("classes",))
def diff(
    session: Session,
    before: Annotated[Path, typer.Argument(metavar="BEFORE", help="The older manifest.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The newer manifest.", show_default=False)],
) -> dict[str, Any]:
    """Show the differences between two manifests: clips, content, labels, subjects and splits."""
    from fer_core.clips.combine import diff as diff_manifests
    from fer_core.clips.manifest import content_digests, fingerprint, read_manifest

    manifests, digests, prints, unread = [], [], [], []
    for path in (before, after):
        manifest = read_manifest(path, subject="none", classes=session.config.class_list)
        try:
            with session.progress(f"Reading {path.name}") as progress:
                contents = content_digests(manifest, progress)
            prints.append(fingerprint(manifest, contents))
        except DataError as exc:  # a clip that is gone, as of a person who was forgotten: the rows still compare
            contents = {}
            prints.append("")
            unread.append(f"{path}: {exc}")
        manifests.append(manifest)
        digests.append(contents)
    found = diff_manifests(manifests[0], manifests[1], digests[0], digests[1])
    same = prints[0] == prints[1] if all(prints) else None
    session.say_lines(f"{path} {digest}" for path, digest in zip((before, after), prints, strict=True) if digest)
    session.say_lines(f"Contents are not compared: {why}" for why in unread)
    session.say({True: "The same data.", False: "Not the same data.", None: "The rows:"}[same])
    session.say_lines(f"- {clip}" for clip in found.removed)
    session.say_lines(f"+ {clip}" for clip in found.added)
    session.say_lines(f"= {old} -> {new}" for old, new in found.renamed)
    session.say_lines(f"~ {c.clip}: {c.field} {c.before or '(none)'} -> {c.after or '(none)'}" for c in found.changed)
    session.next("what is in the newer one, on one page", "data", "card", after)
    return {"fingerprints": prints, "same_data": same, "not_compared": unread, **asdict(found)}


@command(reads=("limits",))
def synth(
    session: Session,
    out: Annotated[Path, typer.Argument(help="Folder for the clips.", show_default=False)],
    subjects: Annotated[int, typer.Option(min=1, help="Number of people; each has six clips.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed; another seed draws other people.")] = 0,
) -> dict[str, Any]:
    """Draw people whose faces move from neutral to an emotion: videos and folders of frames, with a manifest."""
    from fer_core.clips.synthetic import synthesize

    with session.progress("Drawing clips") as progress:
        manifest = synthesize(out, subjects, seed, session.config.limits.workers, progress)
    session.say(f"{len(manifest)} synthetic clips of {len(manifest.subjects)} subjects: {out / 'manifest.csv'}")
    session.next("the best settings", "search", out / "manifest.csv")
    return {"manifest": str(out / "manifest.csv"), "clips": len(manifest), "subjects": len(manifest.subjects)}


def _show_readings(session: Session, database: str, found: Scan) -> dict[str, Any]:
    """The first clips as a scan reads them; nothing is written."""
    clips = found.manifest.clips[:10]
    rows = list(found.readings) or [
        (c.path.name, c.subject, c.emotion or "", c.split or "", f"kept as {c.emotion}") for c in clips
    ]
    title = f"{database}: {found.found} found, {found.kept} kept; the first {len(rows)}:"
    session.table(title, ("path", "subject", "label", "split", "result"), rows)
    if found.dropped:
        session.table("Left out", ("reason", "clips"), list(found.dropped.items()))
    session.say_lines(f"Note: {warning}" for warning in found.warnings)
    session.say("Nothing is written; scan again with --out clips.csv and without --dry-run.")
    columns = ("path", "subject", "label", "split", "result")
    return {
        "database": database,
        "found": found.found,
        "kept": found.kept,
        "dropped": dict(found.dropped),
        "readings": [dict(zip(columns, row, strict=True)) for row in rows],
        "warnings": list(found.warnings),
    }


def _lookalikes(session: Session, manifest: Manifest, limits: LimitsConfig, store: Path) -> list[Likeness]:
    """Subjects that may be one person, by the backbone that was measured for it, whatever the settings say."""
    from fer_core.clips.lookalikes import lookalikes
    from fer_core.config import BackboneConfig
    from fer_core.features.load_backbone import load_backbone
    from fer_core.features.neutral_faces import neutral_features

    with session.progress("Comparing people") as progress:
        backbone = load_backbone(BackboneConfig(name="efficientnet-lite0"))
        found = neutral_features(manifest.clips, backbone, limits, store, progress)
    return lookalikes(found, {c.id: c.subject for c in manifest.clips})


def _class_table(session: Session, title: str, what: str, rows: Mapping[str, Mapping[Any, int]]) -> None:
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
