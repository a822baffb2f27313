"""The models' names and the backbones': every way from a clip to a verdict; `models/registry.py` says what they are.

Apart from the settings, so that a command line can list them before anything heavy is imported.
"""

from __future__ import annotations

MODEL_NAMES = [
    "head", "fan-self", "fan-relation", "lstm", "c3d", "lstm-c3d", "lstm-c3d-learned", "lbp-svm", "lbp-forest",
    "lbp-change-svm", "displacement-svm", "appearance-displacement", "gradients-svm", "landmarks-svm",
    "landmarks-texture", "landmarks-motion", "appearance-landmarks",
]  # fmt: skip
# keys of `features.architectures.ARCHITECTURES`, and any network in an ONNX file
BACKBONE_NAMES = [
    "efficientnet-lite0", "vgg16", "alexnet", "googlenet", "resnet18", "resnet50", "fer2013", "face-api", "onnx",
]  # fmt: skip
AVERAGE = "average"  # the best trials of a search, averaged; made by `search`, fitted by `train --trial`
FACE_NETWORKS = ("fer2013", "face-api")  # backbones with published weights and classes of their own
FC_HEAD_MODELS = ("head", "appearance-displacement", "appearance-landmarks")  # FC layers over frames are in them
HEAD_RULES = ("head-mean", "head-vote", "head-log-mean")  # the head under each rule


def compared_names() -> tuple[str, ...]:
    """Names that `compare` takes: the head under each rule, and every other model."""
    return (*HEAD_RULES, *(name for name in MODEL_NAMES if name != "head"))
