"""The pages of the site that are made from the code; `make docs` builds the whole site, warnings as errors."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from docs.site_hooks import commands, messages, settings
from fer_core.config import RunConfig
from flows.cli import app

DOCS = Path(__file__).parent.parent / "docs"


def test_every_command_and_option_is_on_the_page():
    page = commands()
    for name, command in get_command(app).commands.items():
        assert f"`ferflow {name}" in page
        for option in (o for p in command.params for o in p.opts if o.startswith("--")):
            assert f"`{option}`" in page


def test_every_setting_is_on_the_page_with_its_default_and_bounds():
    page = settings()
    assert all(f"`{name}`" in page for name in RunConfig.model_fields)
    row = next(line for line in page.splitlines() if line.startswith("| `train.lr`"))
    assert "`0.001`" in row and "> 0 and ≤ 1" in row and "Learning rate" in row
    assert "`frozen`, `last_block`" in page


def test_every_message_of_the_pages_is_on_one_page():
    page = messages(DOCS)
    rows = [
        line for path in DOCS.rglob("*.md") for line in _rows_below(path.read_text(encoding="utf-8"), "| message")
    ]  # fmt: skip
    assert len(rows) > 20 and all(row in page for row in rows)


def _rows_below(text: str, head: str) -> list[str]:
    lines, found, inside = text.splitlines(), [], False
    for line in lines:
        if line.startswith("|"):
            inside = inside or line.startswith(head)
            if inside and not line.startswith((head, "| ---")):
                found.append(line)
        else:
            inside = False
    return found
