"""Shared by all commands: settings, output and errors.

`@command` gives a function the options --config, --set, --workspace and --json, hands it a `Session` in their place,
and turns a FerError into one sentence on stderr. A command returns a JSON-able dict: under --json it is the one thing
on stdout, else what the command printed through its session is.
"""

from __future__ import annotations

import inspect
import itertools
import json
import logging
import math
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType, NoneType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fer_core.errors import ConfigError, FerError
from flows.support.formatting import duration

if TYPE_CHECKING:
    from rich.console import Console

    from fer_core.config import RunConfig

LINE_S = 30.0  # from one line of progress to the next, without a terminal
FAILED, BAD_ROWS, INTERRUPTED, TERMINATED = 1, 3, 130, 143

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings, YAML, or the name of a packaged one (thesis-4)."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="One setting; may be repeated.")
]
Workspace = Annotated[
    str, typer.Option("--workspace", metavar="DIR", help="Folder of all results; default $FERFLOW_WORKSPACE.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; the rest goes to stderr.")]
RunManifest = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CSV]",
        help="Manifest; default: that of the settings, or the workspace's clips.csv.",
        show_default=False,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Keep runs in the workspace until 'ferflow sync'; the server is not asked.")
]
FollowLinks = Annotated[bool, typer.Option("--follow-links", help="Follow symbolic links inside folders.")]


@dataclass
class Session:
    """One invocation of one command.

    Args:
        config: the settings, whole.
        as_json: only the returned dict may reach stdout.
        exit_code: what the process ends with when the command returns; commands set BAD_ROWS.
        config_file, overrides: what --config and --set said, to be said again of a command that follows.
    """

    config: RunConfig
    as_json: bool = False
    exit_code: int = 0
    config_file: Path | None = None
    overrides: Sequence[str] = ()

    @cached_property
    def workspace(self) -> Path:
        """The workspace folder, made if needed. Raises StoreError when it cannot be."""
        from fer_core.runtime import resolve_workspace

        return resolve_workspace(self.config.workspace)

    def following(self, links: bool) -> RunConfig:
        """The settings, with links inside a tree followed when --follow-links asks for it."""
        update = {"limits": self.config.limits.model_copy(update={"follow_links": True})}
        return self.config.model_copy(update=update) if links else self.config

    def with_manifest(self, manifest: Path | None, links: bool = False) -> RunConfig:
        """The settings with the manifest named on the command line, if there is one; see `following` for `links`.

        Raises:
            ConfigError: `--set manifest=` names another one too.
        """
        config = self.following(links)
        if manifest is None:
            return config
        if any(line.partition("=")[0].strip() == "manifest" for line in self.overrides):
            raise ConfigError(f"two manifests are named, {manifest} and --set manifest=; leave out one")
        return config.model_copy(update={"manifest": str(manifest.expanduser().absolute())})

    @cached_property
    def out(self) -> Console:
        """Console for results: stdout, or nothing under --json."""
        from rich.console import Console

        console = Console(quiet=self.as_json, markup=False, highlight=False, emoji=False)
        if not console.is_terminal:
            console.width = 200  # a pipe has no edge to fold a table at
        return console

    @cached_property
    def err(self) -> Console:
        """Console for progress and logs: stderr."""
        from rich.console import Console

        return Console(stderr=True, markup=False, highlight=False, emoji=False)

    def show_logs(self) -> None:
        """The library's INFO and everyone's warnings go to `err`, in place of whatever printed them before."""
        logging.getLogger().handlers = [_ConsoleHandler(self.err)]
        logging.getLogger("fer_core").setLevel(logging.INFO)

    def say(self, text: str) -> None:
        """One line of the result, for a person."""
        self.out.print(printable(text), soft_wrap=True)

    def note(self, text: str) -> None:
        """One line about what is being done, on stderr."""
        self.err.print(printable(text), soft_wrap=True)

    def say_lines(self, lines: Iterable[str]) -> None:
        """Several lines of the result."""
        for line in lines:
            self.say(line)

    def next(self, what: str, *words: object) -> None:
        """Say which command comes next, with the settings of this one; words that are None are left out.

        Args:
            what: what that command gives.
            words: name of the command, and its arguments.
        """
        given = [("--set", line) for line in self.overrides]
        given += [("--config", str(self.config_file))] if self.config_file else []
        given += [("--workspace", self.config.workspace)] if self.config.workspace != "auto" else []
        typed = [str(word) for word in words if word is not None]
        self.say(f"Next, {what}: {shlex.join(['ferflow', *typed, *itertools.chain(*given)])}")

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table of the result, for a person; numbers stand right."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        cells = [[c if isinstance(c, (int, float)) else printable(str(c)) for c in row] for row in rows]
        if title:
            self.say(title)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, name in enumerate(columns):
            numeric = bool(cells) and all(isinstance(row[i], (int, float)) for row in cells)
            table.add_column(printable(name), justify="right" if numeric else "left", overflow="fold")
        for row in cells:
            table.add_row(*(Text(str(c)) for c in row))
        self.out.print(table)

    @contextmanager
    def bars(self) -> Iterator[Callable[[str, int, int], None]]:
        """Show a progress bar for each `what` of the callback (what, done, total), with the time left.

        Without a terminal, for example in a log file, one line is written every `LINE_S` seconds.
        """
        if not self.err.is_terminal:
            yield _Lines(self.note).move
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        tasks: dict[str, Any] = {}
        with Progress(*columns, console=self.err, transient=True) as bars:

            def move(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(printable(what), total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield move

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[int, int], None]]:
        """One bar, moved by the callback: (done, total)."""
        with self.bars() as move:
            yield lambda done, total: move(what, done, total)


class _Lines:
    """Progress as lines: one every `LINE_S` seconds, with the time left at the speed so far."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._begun: dict[str, tuple[float, int]] = {}
        self._last = time.monotonic()

    def move(self, what: str, done: int, total: int) -> None:
        """Note that `done` of `total` pieces of `what` are done, and write a line if it is time."""
        now = time.monotonic()
        began, before = self._begun.setdefault(what, (now, done))
        if now - self._last < LINE_S:
            return
        self._last = now
        left = f", {duration((now - began) * (total - done) / (done - before))} left" if done > before else ""
        self._write(f"{what}: {done} of {total}{left}")


def printable(text: str) -> str:
    """The text with control characters spelt out: names from files must not steer a terminal or forge log lines."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


Function = Callable[..., dict[str, Any]]


def command(preset: str = "", reads: Sequence[str] | None = None) -> Callable[[Function], Callable[..., None]]:
    """A typer command from `function(session, …) -> dict`; `…` are its own typer parameters.

    Args:
        preset: name of the packaged settings that stand in for --config when none is given.
        reads: the sections and fields that the command reads beside `workspace`; a --set of another is refused. A file
            may hold more, since it serves several commands. None: any may matter.
    """
    return lambda function: _command(function, preset, reads)


def _command(function: Function, preset: str, reads: Sequence[str] | None) -> Callable[..., None]:
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    def run(
        *, config_file: Path | None, overrides: list[str] | None, workspace: str, as_json: bool, **given: Any
    ) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            session = _begin(config_file or (Path(preset) if preset else None), overrides or [], workspace, as_json)
            _check_read(function.__name__, overrides or [], reads)
            result = function(session, **given)
        except FerError as exc:
            _fail(exc, as_json)
        except KeyboardInterrupt as exc:
            typer.echo("Stopped.", err=True)
            raise typer.Exit(TERMINATED if isinstance(exc, _Terminated) else INTERRUPTED) from None
        if as_json:
            typer.echo(json.dumps(_plain(result)))
        raise typer.Exit(session.exit_code)

    shared = {
        "config_file": (ConfigFile, None), "overrides": (Overrides, None),
        "workspace": (Workspace, ""), "as_json": (AsJson, False),
    }  # fmt: skip
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in shared.items()
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    return run


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which would otherwise leave a temporary Prefect server behind."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _begin(config_file: Path | None, overrides: list[str], workspace: str, as_json: bool) -> Session:
    from fer_core.config import load_config

    config = load_config(config_file, overrides)
    if workspace:
        config = config.model_copy(update={"workspace": workspace})
    session = Session(config, as_json, config_file=config_file, overrides=overrides)
    session.show_logs()
    return session


def _check_read(name: str, overrides: list[str], reads: Sequence[str] | None) -> None:
    """Refuse a setting that the command would not read. Raises ConfigError."""
    for item in () if reads is None else overrides:
        key, known = item.partition("=")[0].strip(), ("workspace", *(reads or ()))
        if not any(f"{key}.".startswith(f"{section}.") for section in known):
            own = " A model scores by the preprocessing it was trained with." if name == "score" else ""
            raise ConfigError(
                f"'--set {item}': '{name}' does not read {key}, only {', '.join(known)}; leave it out.{own}"
            )


class _ConsoleHandler(logging.Handler):
    """Log records on the session's stderr, above the progress bars, one line each however they were written.

    What Prefect says of its own doings is left to its UI; a flow's error ends in the command's one sentence, and so
    does an error of MLflow's database, which MLflow logs and raises.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "mlflow.store.db.utils":
            return
        prefect = sys.modules.get("prefect")
        if prefect and Path(record.pathname).is_relative_to(Path(str(prefect.__file__)).parent):
            return
        self.console.print(f"{record.levelname.lower()}: {printable(record.getMessage())}", soft_wrap=True)


def _fail(exc: FerError, as_json: bool) -> NoReturn:
    sentence = printable(" ".join(str(exc).split()))
    typer.echo(f"Error: {sentence}", err=True)
    if as_json:
        typer.echo(json.dumps({"error": sentence, "kind": type(exc).__name__}))
    raise typer.Exit(FAILED) from exc


def _plain(value: Any) -> Any:
    """The value as JSON has it: NaN becomes null, numpy scalars numbers, everything unknown text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, NoneType)) else str(value)
