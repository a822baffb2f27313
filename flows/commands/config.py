"""`ferflow config`: print the settings as YAML, every key with its meaning and bounds."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from flows.commands.session import Session, command

if TYPE_CHECKING:
    from pydantic import BaseModel

_BOUNDS = {
    "exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}",
    "pattern": "matches {}",
}  # fmt: skip


@command()
def config(session: Session) -> dict[str, Any]:
    """Print all settings, with the changes by --config and --set. The output can be used with --config."""
    session.say_lines(documented(session.config))
    return session.config.model_dump(mode="json")


def documented(settings: BaseModel, indent: str = "") -> Iterator[str]:
    """YAML lines of the settings; above each key what it means and the values it takes."""
    import yaml
    from pydantic import BaseModel

    properties = type(settings).model_json_schema()["properties"]
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield ""
            yield from _comment(type(value).__doc__ or "", indent)
            yield f"{indent}{name}:"
            yield from documented(value, indent + "  ")
        else:
            meaning = field.description or ""
            bounds = ", ".join(_bounds(properties[name], meaning))
            yield from _comment(meaning + (f" ({bounds})" if bounds else ""), indent)
            plain = settings.model_dump(mode="json")[name]
            text = yaml.safe_dump([plain], default_flow_style=True, width=10_000, allow_unicode=True).strip()
            yield f"{indent}{name}: {text[1:-1]}"


def _bounds(schema: dict[str, Any], meaning: str) -> Iterator[str]:
    """The limits of a field; choices only where its meaning does not name them already."""
    choices = [str(c) for c in schema.get("enum", ())]
    if not all(c in meaning for c in choices):
        yield f"one of {', '.join(choices)}"
    yield from (text.format(schema[key]) for key, text in _BOUNDS.items() if key in schema)


def _comment(text: str, indent: str) -> Iterator[str]:
    yield from (f"{indent}# {line}" for line in wrap(" ".join(text.split()), 110 - len(indent)))
