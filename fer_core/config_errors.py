"""A refused setting in words: which, set where, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fer_core.databases import without_password

Loc = tuple[int | str, ...]


def explain(exc: ValidationError, root: type[BaseModel], files: Mapping[str, str], overrides: Sequence[str]) -> str:
    """A pydantic error as one line a user can act on: where it was set, dotted field, what was got, what is needed.

    Args:
        root: the model that refused. files: section -> the file that has it. overrides: as `--set` has them.
    """
    by_origin: dict[str, list[str]] = {}
    refused = {error["loc"] for error in exc.errors()}
    for error in exc.errors():
        loc = error["loc"]
        field, got = ".".join(map(str, loc)), f"(got {error['input']!r:.80})"
        if error["type"] == "extra_forbidden":
            part = f"unknown key '{field}'{_nearest(root, loc)}"
        elif error["type"] == "tuple_type":
            part = f"{field}: needs a list{_as_list(root, loc, error['input'])} {got}"
        elif error["type"] == "too_short" and any(other[: len(loc)] == loc != other for other in refused):
            continue  # pydantic counts only the items that are right
        else:
            said = error["msg"].removeprefix("Value error, ").replace("Tuple should", "List should")
            part = f"{field}: {said.replace(' after validation', '')} {got}"
        by_origin.setdefault(_origin(loc, files, overrides), []).append(part)
    told = "; ".join(f"{origin}: {'; '.join(parts)}" for origin, parts in by_origin.items())
    told = without_password(told)
    return f"{told}. 'ferflow config' prints every key with its bounds."


def _origin(loc: Loc, files: Mapping[str, str], overrides: Sequence[str]) -> str:
    """The last `--set` of a field or of its section; for a section set in parts, its file and these `--set`s."""
    path = tuple(map(str, loc))
    keyed = [(tuple(item.partition("=")[0].strip().split(".")), f"--set {item}") for item in overrides]
    own = [said for key, said in keyed if path[: len(key)] == key]
    if own:
        return own[-1]
    file = [files[path[0]]] if path[0] in files else []
    return " with ".join([*file, *(said for key, said in keyed if key[: len(path)] == path)])


def _as_list(root: type[BaseModel], loc: Loc, value: Any) -> str:
    """A single value written as the list that its field needs: `[[512]]` for the 512 of a list of lists."""
    if not isinstance(value, (str, int, float)):
        return ""
    kinds = get_args(_annotation(root, loc))
    items = ", ".join([str(value)] * (1 if kinds[-1] is Ellipsis else len(kinds)))
    depth = 1 + sum(isinstance(part, int) for part in loc)
    return f", as in {'[' * depth}{items}{']' * depth}"


def _annotation(root: type[BaseModel], loc: Loc) -> Any:
    """The type of a field, or of an item in it; None where there is none."""
    kind: Any = root
    for part in loc:
        if isinstance(part, int):
            kind = get_args(kind)[0]
        else:
            fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else {}
            kind = fields[part].annotation if part in fields else None
    return kind


def _nearest(root: type[BaseModel], loc: Loc) -> str:
    section = _annotation(root, loc[:-1])
    fields = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
    close = get_close_matches(str(loc[-1]), list(fields), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
