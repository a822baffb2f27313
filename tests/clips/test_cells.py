from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from fer_core.clips.cells import markdown_text, shown_cell

NAMES = [
    "take_1_final", "*a*", "[x](http://evil)", "![x](http://evil/y.png)", "<script>alert(1)</script>",
    "a|b", "`a`", "# a",
    "- a", "+ a", "1. a", "1) a", "> a", "~~a~~", "a\\b", "&lt;", "=", "---", "http://evil", "plain 12.5 %", "",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_markdown_is_shown_letter_by_letter(name: str) -> None:
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for before in ("", "x\n\n| a |\n| --- |\n| "):
        tokens = [t for t in renderer.parse(before + markdown_text(name) + (" |" if before else "")) if t.children]
        shown = tokens[-1].children if name else []
        assert {t.type for t in shown} <= {"text", "text_special"}
        assert "".join(t.content for t in shown) == name


def test_a_name_of_several_lines_makes_no_paragraph_in_markdown() -> None:
    assert markdown_text("a\n\nb") == "a b"


def test_fault_108_tables_spell_control_characters_out_and_leave_letters_alone() -> None:
    assert shown_cell("a\x1b[31m\x07\n\x7f\x9b.mp4") == r"a\x1b[31m\x07\n\x7f\x9b.mp4"
    assert shown_cell("é 表\u3000\u200d🙂") == "é 表\u3000\u200d🙂" and shown_cell("=1\x07") == r"'=1\x07"
