"""Store features, so that the frozen convolutions run only once for each face and view."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from fer_core.features.architectures import ARCHITECTURES
from fer_core.features.augment import PLAIN, View
from fer_core.features.backbone import Backbone
from fer_core.features.neutral_reference import FACES, NEUTRAL, neutral_reference
from fer_core.features.torch_backbone import TorchBackbone, one_network
from fer_core.features.weights import tensors_digest
from fer_core.preprocess.faces import Faces
from fer_core.store import EntryStore, cache_key

Layer = Literal["features", "maps"]


def feature_key(faces_key: str, backbone: Backbone, view: View = PLAIN, layer: Layer = "features") -> str:
    """Return the key of the features of some faces: key of the faces, view, and identity of the backbone at a layer.

    Batch size, threads and device are not part of it: features are computed in padded batches of 8 and rounded to
    float16.
    """
    identity = backbone.identity if layer == "features" else one_network(backbone).maps_identity
    return cache_key(faces=faces_key, **view.identity, **identity)


def neutral_key(course_key: str, backbone: Backbone) -> str:
    """Return the key of the neutral face's features of a clip, from the key of its whole-course faces."""
    return cache_key(neutral_of=course_key, faces=FACES, **backbone.identity)


class FeatureStore:
    """The store of features and maps, and of the backbone's layers from which fits start.

    Args:
        store_root: the workspace's `store` folder.
    """

    def __init__(self, store_root: Path) -> None:
        self.entries = EntryStore(store_root, "features")
        self.tables = EntryStore(store_root, "matrix")
        self.fc = EntryStore(store_root, "fc")
        self.blocks = EntryStore(store_root, "block")

    def extract(self, faces: Faces, backbone: Backbone, view: View = PLAIN) -> np.ndarray:
        """Return (n, d) float16 features of a clip's faces: stored ones, else computed from stored maps or from the
        faces."""
        key = feature_key(faces.key, backbone, view)
        if (stored := self.entries.get(key)) is not None:
            return stored[0]["features"]
        features = self._above_stored_maps(faces, backbone, view)
        if features is None:
            features = backbone.features(view.of(faces))
        self.entries.put(key, {"features": features}, {"faces": faces.key, **view.identity, **backbone.identity})
        return features

    def neutral(self, course: Faces, backbone: Backbone) -> np.ndarray:
        """Return (d,) float16 features of a clip's neutral face, stored or computed; see `neutral_reference`."""
        key = neutral_key(course.key, backbone)
        if (stored := self.entries.get(key)) is not None:
            return stored[0][NEUTRAL]
        found = neutral_reference(backbone, course.pixels)
        self.entries.put(key, {NEUTRAL: found}, {"faces": course.key, **backbone.identity})
        return found

    def _above_stored_maps(self, faces: Faces, backbone: Backbone, view: View) -> np.ndarray | None:
        if not isinstance(backbone, TorchBackbone):
            return None
        maps = self.entries.get(feature_key(faces.key, backbone, view, "maps"))
        return backbone.above(maps[0]["maps"]) if maps else None

    def extract_maps(self, faces: Faces, backbone: Backbone, view: View = PLAIN) -> np.ndarray:
        """Return (n, c, h, w) float16 maps at the backbone's cut, stored or computed."""
        backbone = one_network(backbone)
        key = feature_key(faces.key, backbone, view, "maps")
        if (stored := self.entries.get(key)) is not None:
            return stored[0]["maps"]
        maps = backbone.maps(view.of(faces))
        self.entries.put(key, {"maps": maps}, {"faces": faces.key, **view.identity, **backbone.maps_identity})
        return maps

    def take(self, layer: Layer, faces: Faces, backbone: Backbone, view: View) -> np.ndarray:
        """Call `extract` or `extract_maps`, depending on the layer."""
        return (self.extract if layer == "features" else self.extract_maps)(faces, backbone, view)

    def store_fc(self, backbone: Backbone) -> Path | None:
        """Store the backbone's FC layers, from which trials start. Returns the file; None if the checkpoint has no FC
        layers."""
        if not backbone.fc:
            return None
        key = cache_key(
            fc=tensors_digest({str(i): torch.hstack([w, b[:, None]]) for i, (w, b) in enumerate(backbone.fc)})
        )
        if key not in self.fc:
            arrays: dict[str, np.ndarray] = {}
            for place, (weight, bias) in enumerate(backbone.fc):
                arrays |= {f"{place}.weight": weight.numpy(), f"{place}.bias": bias.numpy()}
            self.fc.put(key, arrays, {"layers": len(backbone.fc)})
        return self.fc.path(key)

    def stored_layers(self, backbone: Backbone | None, *, block: bool) -> tuple[Path | None, Path | None]:
        """Store the layers that fits start from: (file of FC layers, file of last block); None if not needed."""
        if backbone is None:
            return None, None
        return self.store_fc(backbone), self.store_block(one_network(backbone)) if block else None

    def store_block(self, backbone: TorchBackbone) -> Path:
        """Store the backbone's last block, which trials fine-tune, and return its file."""
        state = {name: value.cpu() for name, value in backbone.block.state_dict().items()}
        key = cache_key(backbone=backbone.name, block=tensors_digest(state))
        if key not in self.blocks:
            arrays = {name: value.numpy() for name, value in state.items()}
            self.blocks.put(key, arrays, {"backbone": backbone.name})
        return self.blocks.path(key)


def load_block(path: Path) -> nn.Module:
    """Load a stored last block, in evaluation mode."""
    with safe_open(path, framework="pt") as file:
        name = json.loads(file.metadata()["note"])["backbone"]
        state = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    with torch.device("meta"):  # without memory for the rest of the network
        _, block = ARCHITECTURES[name].split(ARCHITECTURES[name].build())
    block.load_state_dict(state, strict=True, assign=True)
    return block.eval()


def load_fc(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Load weight and bias of stored FC layers (all except the last), memory-mapped."""
    with safe_open(path, framework="pt") as file:
        layers = json.loads(file.metadata()["note"])["layers"]
        return [(file.get_tensor(f"{i}.weight"), file.get_tensor(f"{i}.bias")) for i in range(layers)]
