"""Pack a model's two files into an MLflow model folder, as model from code with the library and without pickles."""

from __future__ import annotations

import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import fer_core
from fer_core.models.bundle import RECORD, WEIGHTS, ModelBundle

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

# All packages that scoring imports; a test compares them with those that a new process loads.
REQUIREMENTS = (
    "mlflow", "torch", "torchvision", "opencv-python-headless", "av", "numpy", "scipy", "pandas", "pydantic", "pyyaml",
    "safetensors", "efficientnet-lite-pytorch", "platformdirs", "filelock",
)  # fmt: skip


def pack(folder: Path, bundle: ModelBundle, target: Path, name: str) -> Path:
    """Write the MLflow model of the bundle in `folder` to `target`, which must not exist; return `target`.

    The signature is given and not inferred, because MLflow would score and save the input example.
    """
    import mlflow.pyfunc

    from fer_core.tracking import pyfunc as door  # MLflow's pyfunc takes pandas, which the registry does not need

    library = Path(fer_core.__file__).parent
    code = target.parent / "code" / library.name  # without caches, which differ between machines
    shutil.copytree(library, code, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(Path(door.__file__)),
            artifacts={"weights": str(folder / WEIGHTS), "record": str(folder / RECORD)},
            code_paths=[str(code)],
            signature=_signature(bundle),
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in _requirements(bundle)],
            model_config={"name": name, "device": "auto", "engine": "auto"},
            metadata={"ferflow": fer_core.__version__, "model_digest": bundle.digest, "format": bundle.record.format},
        )
    _forget_where(target)
    return target


def _requirements(bundle: ModelBundle) -> tuple[str, ...]:
    """Return the packages that scoring with this model imports."""
    of_a_file = bundle.backbone is not None and bundle.backbone.onnx is not None
    return (*REQUIREMENTS, *(("onnx", "onnxruntime") if of_a_file else ()))


def _forget_where(target: Path) -> None:
    """Remove the paths of this machine from `MLmodel`; loading uses only names inside the model."""
    description = target / "MLmodel"
    content = yaml.safe_load(description.read_text())
    flavor = content["flavors"]["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    for artifact in flavor["artifacts"].values():
        artifact["uri"] = artifact["path"]
    description.write_text(yaml.safe_dump(content, sort_keys=False))


def _signature(bundle: ModelBundle) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, Object, ParamSchema, ParamSpec, Property, Schema

    from fer_core.tracking import pyfunc as door

    kinds = {"abstained": "boolean", "frames": "long"}
    kinds |= dict.fromkeys(("path", "status", "emotion", "reason"), "string")
    inputs = Schema([ColSpec("string", "path", required=False), ColSpec("binary", "video", required=False)])
    window = Object([Property(n, kinds.get(n, "double"), False) for n in door.window_columns(bundle.classes)])
    columns = {n: ColSpec(kinds.get(n, "double"), n) for n in door.output_columns(bundle.classes)}
    outputs = Schema([*{**columns, "windows": ColSpec(Array(window), "windows", required=False)}.values()])
    types = {str: "string", int: "long", float: "double"}
    params = ParamSchema([ParamSpec(name, types[type(value)], value) for name, value in door.PARAMS.items()])
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)
