"""Write a torch network as an ONNX graph, which engines read; graphs are kept in the user's cache."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fer_core.errors import StoreError
from fer_core.store import cache_key, write_atomic

EXPORT_VERSION = 1  # raised whenever the same network gives another graph


def engines_folder() -> Path:
    """Return the folder of graphs and of the choices of engines, in the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("ferflow") / "engines"


class _Network(nn.Module):
    """Trunk and block of a network; maps and features are rounded to float16, as `TorchBackbone` does."""

    def __init__(self, trunk: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.trunk, self.block = trunk, block

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.block(self.trunk(faces).half().float())
        return rows.half().float()


def exported(trunk: nn.Module, block: nn.Module, example: torch.Tensor, identity: Mapping[str, str]) -> bytes:
    """Return the bytes of the ONNX graph of `block(trunk(faces))`, from the cache if it was exported before.

    Args:
        example: (8, c, h, w) float32 input; the graph accepts this shape only.
        identity: everything that the graph depends on.
    """
    key = cache_key(**identity, shape=list(example.shape), torch=torch.__version__, version=EXPORT_VERSION)
    path = engines_folder() / f"{key}.onnx"
    if path.is_file():
        return path.read_bytes()
    with tempfile.TemporaryDirectory(prefix="ferflow-graph-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = Path(folder) / "network.onnx"
        with torch.inference_mode():
            # the newer exporter needs one more package (onnxscript), and its graphs are no faster
            torch.onnx.export(_Network(trunk, block).eval(), (example,), written, dynamo=False)
        graph = written.read_bytes()
    with contextlib.suppress(StoreError):  # where the cache is read-only, the graph is exported again next time
        write_atomic(path, graph)
    return graph
