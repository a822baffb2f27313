"""The rooms' order, and what no code of ours may do, read off the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room imports only from its own and from those above it (fer_core's docstring draws the map).
LEVELS = (
    (
        "config",
        "config_errors",
        "databases",
        "emotions",
        "errors",
        "model_names",
        "palette",
        "published",
        "runtime",
        "store",
    ),
    ("clips",),
    ("preprocess",),
    ("features",),
    ("workspace",),
    ("dataset",),
    ("training",),
    ("models",),
    ("evaluation",),
    ("scoring",),
    ("experiments",),
    ("reports",),
    ("thesis",),
    ("housekeeping",),
    ("tracking",),
    ("api",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
SOURCES = sorted(
    p
    for package in ("ferflow", "ferflow_command", "fer_core", "flows", "mlflow_server")
    for p in (ROOT / package).rglob("*.py")
)
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {
    "torch.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "os.system",
    "os.popen",
    "eval",
    "exec",
}
# The one door to a pickled checkpoint: `weights_only`, in a child process whose only product is a safetensors file.
UNPICKLER = "fer_core/features/unpickle.py"


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Dotted names a file imports, also inside functions and for type checking."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)} imports relatively; name the room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def runtime_imports(path: Path) -> Iterator[str]:
    """Those not under `if TYPE_CHECKING`."""
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "fer_core").parts
    return parts[0].removesuffix(".py")


IN_ROOMS = [p for p in SOURCES if p.is_relative_to(ROOT / "fer_core") and room_of(p) != "__init__"]


@pytest.mark.parametrize("path", IN_ROOMS, ids=name_of)
def test_rooms_import_only_upwards(path):
    room = room_of(path)
    assert room in LEVEL, f"room '{room}' has no place in the order"
    for name in runtime_imports(path):
        package, _, rest = name.partition(".")
        if package == "fer_core" and rest and rest != "__version__":
            other = rest.split(".")[0]
            assert LEVEL[other] <= LEVEL[room], f"{name_of(path)} imports {name}, which lies below it"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_packages_keep_apart(path):
    where = name_of(path)
    roots = {name.split(".")[0] for name in imports(path)}
    if where.startswith("fer_core/"):
        assert not roots & {"prefect", "flows", "mlflow_server", "typer", "ferflow"}
        assert "mlflow" not in roots or where.startswith("fer_core/tracking/")
    elif where.startswith("ferflow/"):  # re-exports only
        assert roots == {"fer_core"}
        assert all(isinstance(node, (ast.Expr, ast.ImportFrom, ast.Assign)) for node in tree_of(path).body)
    elif where.startswith("mlflow_server/"):
        assert not roots & {"fer_core", "flows", "prefect"}
    elif where.startswith("ferflow_command/"):  # runs at the start of every process of ours
        assert not roots & {"fer_core", "ferflow", "mlflow_server", "prefect", "mlflow"}
    else:
        assert "mlflow" not in roots


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_runs_code_from_data(path):
    where = name_of(path)
    assert not {name.split(".")[0] for name in imports(path)} & FORBIDDEN_MODULES
    for called, node in calls(path):
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert keywords.get("shell", "False") == "False", f"{where}:{node.lineno} starts a shell"
        if called == "torch.load" and where == UNPICKLER:
            assert keywords["weights_only"] == "True"
        else:
            assert called not in FORBIDDEN_CALLS, f"{where}:{node.lineno} calls {called}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_only_define(path):
    """No environment read, folder made or logger set at import: `main`, flows and fixtures act.

    `set_model` is how MLflow finds a model in code, and `add_typer` how commands are gathered. `prepare_torch` must run
    before torch is imported, also in a Dask worker, which has no `main` of ours.
    """
    for node in tree_of(path).body:
        if isinstance(node, ast.Expr):
            called = ast.unparse(node.value.func) if isinstance(node.value, ast.Call) else ""
            accepted = called in ("app.add_typer", "set_model", "prepare_torch") or isinstance(node.value, ast.Constant)
            assert accepted, ast.unparse(node)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            text = ast.unparse(node.value)
            assert "os.environ" not in text and "getenv" not in text and ".cwd()" not in text, text


ROOMS = sorted({room_of(p) for p in IN_ROOMS if (ROOT / "fer_core" / room_of(p)).is_dir()})
MOST_ARROWS = 4.0  # other folders that a folder of fer_core imports from, on average


def arrows() -> dict[str, set[str]]:
    """Folder of fer_core -> the other folders it imports from."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for path in IN_ROOMS:
        if (room := room_of(path)) in found:
            others = {name.split(".")[1] for name in runtime_imports(path) if name.startswith("fer_core.")}
            found[room] |= (others & set(ROOMS)) - {room}
    return found


def test_a_room_imports_from_few_others():
    found = arrows()
    assert sum(map(len, found.values())) / len(found) <= MOST_ARROWS


if __name__ == "__main__":
    for name, others in arrows().items():
        print(f"{name:13} {len(others)}  {' '.join(sorted(others))}")
    print(f"{sum(map(len, arrows().values())) / len(ROOMS):.1f} a room, {len(ROOMS)} rooms")
