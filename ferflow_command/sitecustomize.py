"""Make `flows` and `mlflow_server` mean ferflow's own packages, whatever lies on the Python path or in the folder.

Python imports a module of this name when it starts. Every process that the `ferflow` command starts finds this one,
because the command puts its folder into $PYTHONPATH: also Prefect's process for a flow run, which looks for the flow in
the working folder first.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from types import ModuleType

# Names that a lab may have given to a package too. `fer_core` is none of them: a registered model brings its own copy.
OWN = ("flows", "mlflow_server")
FOLDER = os.path.dirname(os.path.abspath(__file__))


class OwnPackages:
    """Finds the packages of `OWN` beside this one, before Python looks through its path."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [os.path.dirname(FOLDER)]) if name in OWN else None


def use_own_packages() -> None:
    """Use ferflow's own packages in this process and in the processes that it starts."""
    sys.meta_path.insert(0, OwnPackages)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != FOLDER]
    os.environ["PYTHONPATH"] = os.pathsep.join([FOLDER, *others])


def run_next() -> None:
    """Run the `sitecustomize` that Python would have run without this one, if there is one."""
    spec = PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != FOLDER])
    if spec and spec.loader:
        spec.loader.exec_module(module_from_spec(spec))


if __name__ == "sitecustomize":  # imported by Python's start, not by the command
    use_own_packages()
    run_next()
