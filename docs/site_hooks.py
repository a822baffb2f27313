"""Hooks of the documentation site: pages that are made from the code, and links between docs/ and the files above it.

Made anew at every build, so they cannot go stale: every command and option from the command line itself, every setting
from the settings, and every message from the tables of all pages.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typer.main import get_command

ROOT = Path(__file__).parent.parent
# files above docs/ -> their pages on the site
ABOVE = {
    "README.md": "start.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "extend.md",
    "SECURITY.md": "security.md", "LICENSE": "license.md",
}  # fmt: skip
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_MESSAGES = re.compile(r"^\| message[^|]*\|[^|]*\|\n\|[ -]+\|[ -]+\|\n((?:\|.*\|\n?)+)", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code and from the files above docs/."""
    made = {name: (ROOT / source).read_text(encoding="utf-8") for source, name in ABOVE.items()}
    made["license.md"] = f"# License\n\n```\n{made['license.md']}\n```\n"
    made |= {"commands.md": commands(), "settings.md": settings(), "messages.md": messages(Path(config.docs_dir))}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files above docs/ to their pages; name other files of the repository without a link."""
    own = {name: source for source, name in ABOVE.items()}.get(page.file.src_uri)
    folder = "" if own else posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def target(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        if "://" in link or link.startswith("mailto:"):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, link))
        place = ABOVE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else "")
        here = posixpath.dirname(page.file.src_uri)
        return (
            f"]({posixpath.relpath(place, here or '.')}{anchor})" if place and files.get_file_from_path(place) else "]"
        )

    changed = _LINK.sub(target, markdown)
    return re.sub(r"(?<!!)\[([^\]\[]+)\](?![(\[:])", lambda found: _unlinked(found, markdown), changed)


def _unlinked(found: re.Match[str], before: str) -> str:
    """Return the text of a link that was taken away; other brackets stay."""
    return found[1] if f"[{found[1]}](" in before else found[0]


def commands() -> str:
    """Return the page of all commands and their options."""
    from flows.cli import app

    lines = ["# Every command", "", "Each line is what `ferflow COMMAND --help` shows.", ""]
    for name, command in _commands(get_command(app), "ferflow"):
        lines += [f"## `{name}`", "", _plain(command.help or ""), "", "| option | meaning |", "| --- | --- |"]
        for parameter in command.params:
            names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name]
            shown = ", ".join(f"`{name}`" for name in names)
            lines.append(f"| {_cell(shown)} | {_cell(_plain(getattr(parameter, 'help', '') or ''))} |")
        lines.append("")
    return "\n".join(lines)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for part, inner in command.commands.items():
            yield from _commands(inner, f"{name} {part}")
    else:
        yield name, command


def settings() -> str:
    """Return the page of all settings: name, default, bounds, meaning."""
    from fer_core.config import PRESETS, RunConfig

    lines = [
        "# Every setting", "",
        "Write a setting as `--set section.field=value`, in a file for `--config`, or in a form of the Prefect UI. "
        f"Packaged files: {', '.join(f'`{name}`' for name in PRESETS)}.", "",
    ]  # fmt: skip
    plain = {n: f for n, f in RunConfig.model_fields.items() if not _is_section(f.annotation)}
    lines += ["## The run", "", *_table(RunConfig, plain, ""), ""]
    for name, field in RunConfig.model_fields.items():
        if _is_section(field.annotation):
            about = _plain(field.annotation.__doc__ or "")
            lines += [f"## `{name}`", "", about, "", *_rows(field.annotation, f"{name}."), ""]
    return "\n".join(lines)


def _rows(model: Any, prefix: str) -> list[str]:
    plain = {n: f for n, f in model.model_fields.items() if not _is_section(f.annotation)}
    rows = _table(model, plain, prefix)
    for name, field in model.model_fields.items():
        if _is_section(field.annotation):
            rows += ["", f"### `{prefix}{name}`", "", *_rows(field.annotation, f"{prefix}{name}.")]
    return rows


def _table(model: type[BaseModel], fields: dict[str, Any], prefix: str) -> list[str]:
    schema = model.model_json_schema()["properties"]
    rows = ["| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
    for name, field in fields.items():
        default = "" if field.is_required() else f"`{field.default!r}`"
        cells = (f"`{prefix}{name}`", default, _values(schema[name]), field.description or "")
        rows.append(f"| {' | '.join(map(_cell, cells))} |")
    return rows


def _values(shown: dict[str, Any]) -> str:
    if choices := shown.get("enum") or shown.get("items", {}).get("enum"):
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    told = [f"{sign} {shown[key]}" for key, sign in bounds.items() if key in shown]
    return " and ".join([str(shown.get("type", "")), *told]).replace(" and ", " ", 1)


def messages(docs: Path) -> str:
    """Return the page of all messages, from the tables `message | what to do` of the pages."""
    lines = [
        "# Every message", "", "What a message of ferflow asks you to do. `…` stands for what varies.", "",
        "`ferflow doctor` looks for many causes by itself.", "",
    ]  # fmt: skip
    for page in sorted(docs.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        rows = "".join(found[1].rstrip("\n") + "\n" for found in _MESSAGES.finditer(text))
        if rows:
            title = text.partition("\n")[0].removeprefix("# ")
            lines += [f"## {title}", "", f"From [{title}]({page.relative_to(docs)}).", ""]
            lines += ["| message | what to do |", "| --- | --- |", rows, ""]
    return "\n".join(lines)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
