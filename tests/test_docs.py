"""What the pages say can be done, can be done: links lead somewhere, commands parse, every reader has its page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from fer_core.clips.datasets import READERS, reader_options
from fer_core.config import load_config

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The `ferflow …` command lines of a page's code blocks, comments gone, as words."""
    lines = [line for block in FENCE.findall(page.read_text(encoding="utf-8")) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ferflow ")]


ALL = [pytest.param(words, id=f"{page.stem}: {shlex.join(words)[:60]}") for page in PAGES for words in commands(page)]


@pytest.fixture(scope="module")
def app() -> Any:
    from flows.cli import app

    return typer.main.get_command(app)


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("words", ALL)
def test_commands_parse(app, words):
    command = app
    while hasattr(command, "get_command"):  # typer's groups are none of click's classes
        name, words = words[0], words[1:]
        command = command.get_command(None, name)
        assert command is not None, f"there is no command '{name}'"
    given = command.make_context(command.name, list(words)).params
    config = Path(given["config_file"]) if given.get("config_file") else None
    load_config(config, given.get("overrides") or [])
    for option in given.get("option") or ():
        assert option.partition("=")[0] in reader_options(given["database"])


def test_every_reader_has_a_page_that_shows_its_command():
    index = (ROOT / "docs" / "databases" / "index.md").read_text(encoding="utf-8")
    for reader in READERS:
        page = ROOT / "docs" / "databases" / f"{reader}.md"
        assert f"({page.name})" in index
        assert any(words[:3] == ["data", "scan", reader] for words in commands(page)), reader
