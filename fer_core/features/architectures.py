"""The backbone networks: how each is built and cut into a trunk, which is always frozen, and a last block.

In both parts, the tensors keep their names from the checkpoint, so that a fine-tuned block can be put back. Networks
that were trained on faces also define their input and their own classes.
"""

from __future__ import annotations

import contextlib
import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fer_core.emotions import Classes, ordered
from fer_core.features.face_networks import FACE_API_CLASSES, FER2013_CLASSES, FaceApiNet, MiniXception

Halves = tuple[nn.Module, nn.Module]


@dataclass(frozen=True)
class Normalization:
    """Normalisation of a network's input: (input - mean) / std per channel (eq. 3.5), input in [0, 1].

    Args:
        name: name in settings and records.
        mean, std: one value per channel; a network with one channel reads grey faces.
        size: side to which faces are resized, in pixels; 0: they are not resized.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int = 0


FER2013 = Normalization("fer2013", (0.5,), (0.5,), 64)
FACE_API = Normalization("face-api", (122.782 / 255, 117.001 / 255, 104.298 / 255), (1.0, 1.0, 1.0), 112)


@dataclass(frozen=True)
class Architecture:
    """A network and where it is cut.

    Args:
        build: builds the whole network with random weights.
        split: splits the network into trunk and last block; the block returns (n, n_features).
        cut: name of the place of the cut, for the model record and the feature keys.
        n_features: number of features per face.
        fc_prefix: prefix of the parameters of the fully connected layers, which the backbone does not use.
        fc_layers: names of the FC layers from which a head may start: all except the last, in order.
        normalization: input of a network with its own published weights; None: it depends on the weights.
        classes: classes of such a network's own classifier, in the order of its outputs.
        block_with_classes: returns the last block of the network together with its own classifier.
    """

    build: Callable[[], nn.Module]
    split: Callable[[Any], Halves]
    cut: str
    n_features: int
    fc_prefix: str
    fc_layers: tuple[str, ...] = ()
    normalization: Normalization | None = None
    classes: Classes = ()
    block_with_classes: Callable[[Any], nn.Module] | None = None


class _SpatialMean(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))


def _torchvision(name: str, **kwargs: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import torchvision.models

        model: nn.Module = getattr(torchvision.models, name)(weights=None, **kwargs)
        return model

    return build


def _lite0() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):
        net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return net


def _named(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _before_convolution(place: int) -> Callable[[Any], Halves]:
    """Return a function that cuts a sequential network before the layer at index `place`."""

    def split(net: Any) -> Halves:
        block = _named(features=net.features[place:], avgpool=net.avgpool, flatten=nn.Flatten())
        return _named(features=net.features[:place]), block

    return split


def _before_stage(name: str) -> Callable[[Any], Halves]:
    """Return a function that cuts a network before the child `name`; the FC layer is left out.

    The network's children must be its stages, in order.
    """

    def split(net: Any) -> Halves:
        stages = [(k, m) for k, m in net.named_children() if not isinstance(m, (nn.Linear, nn.Dropout))]
        place = [k for k, _ in stages].index(name)
        return _named(**dict(stages[:place])), _named(**dict(stages[place:]), flatten=nn.Flatten())

    return split


def _before_mbconv(place: int) -> Callable[[Any], Halves]:
    def split(net: Any) -> Halves:
        blocks = {str(i): block for i, block in enumerate(net._blocks)}
        low, high = list(blocks.items())[:place], list(blocks.items())[place:]
        trunk = _named(_conv_stem=net._conv_stem, _bn0=net._bn0, act=nn.ReLU6(), _blocks=_named(**dict(low)))
        block = _named(
            _blocks=_named(**dict(high)), _conv_head=net._conv_head, _bn1=net._bn1, act=nn.ReLU6(), mean=_SpatialMean()
        )
        return trunk, block

    return split


def _before_child(name: str) -> Callable[[Any], Halves]:
    """Return a function that cuts a network before the child `name`; features are the means of that child's maps."""

    def split(net: Any) -> Halves:
        stages = dict(net.named_children())
        place = list(stages).index(name)
        return _named(**dict(list(stages.items())[:place])), _named(**{name: stages[name]}, mean=_SpatialMean())

    return split


def _from_child(name: str) -> Callable[[Any], nn.Module]:
    def block(net: Any) -> nn.Module:
        stages = dict(net.named_children())
        return _named(**dict(list(stages.items())[list(stages).index(name) :]))

    return block


class LogProbabilities(nn.Module):
    """Convert (n, k) logits in a network's own class order to (n, k) log probabilities in `ordered` order."""

    def __init__(self, classes: Classes) -> None:
        super().__init__()
        self.order = [classes.index(emotion) for emotion in ordered(classes)]

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(dim=1)[:, self.order]


ARCHITECTURES: dict[str, Architecture] = {
    # the last MBConv block and the 1x1 head: a quarter of lite0's weights, on maps of 192 x 7 x 7
    "efficientnet-lite0": Architecture(_lite0, _before_mbconv(15), "_blocks.14", 1280, "_fc."),
    "vgg16": Architecture(  # conv5_1 ... conv5_3, on maps of 512 x 14 x 14
        _torchvision("vgg16", init_weights=False), _before_convolution(24), "features.23", 25088, "classifier.",
        ("classifier.0", "classifier.3"),
    ),
    "alexnet": Architecture(  # conv5, on maps of 256 x 13 x 13
        _torchvision("alexnet"), _before_convolution(10), "features.9", 9216, "classifier.",
        ("classifier.1", "classifier.4"),
    ),
    "googlenet": Architecture(  # both inception5 modules, on maps of 832 x 7 x 7
        _torchvision("googlenet", aux_logits=False, init_weights=False, transform_input=False),
        _before_stage("inception5a"), "maxpool4", 1024, "fc.",
    ),
    "resnet18": Architecture(_torchvision("resnet18"), _before_stage("layer4"), "layer3", 512, "fc."),
    "resnet50": Architecture(_torchvision("resnet50"), _before_stage("layer4"), "layer3", 2048, "fc."),
    "fer2013": Architecture(  # the last residual module, on maps of 64 x 8 x 8
        MiniXception, _before_child("module4"), "module3", 128, "classes.",
        normalization=FER2013, classes=FER2013_CLASSES, block_with_classes=_from_child("module4"),
    ),
    "face-api": Architecture(  # the last dense block, on maps of 128 x 14 x 14
        FaceApiNet, _before_child("dense3"), "dense2", 256, "fc.",
        normalization=FACE_API, classes=FACE_API_CLASSES, block_with_classes=_from_child("dense3"),
    ),
}  # fmt: skip


@torch.inference_mode()
def above(block: nn.Module, maps: torch.Tensor) -> torch.Tensor:
    """Compute (n, d) float16 features from (n, c, h, w) float16 maps at the cut, on the block's device.

    Features are always computed by this function, from maps rounded to float16, and are rounded again. So a fine-tuned
    block gives the same features in training and scoring.
    """
    features: torch.Tensor = block(maps.float().contiguous(memory_format=torch.channels_last))
    return features.half()
