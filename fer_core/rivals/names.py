"""The rivals' names, for whoever lists them before anything heavy is imported; `catalogue.py` says what they are."""

NAMES = (
    "head-mean", "head-vote", "head-log-mean", "fan-self", "fan-relation", "lstm", "c3d", "lstm-c3d",
    "lstm-c3d-learned", "lbp-svm", "lbp-forest", "displacement-svm", "appearance-displacement", "gradients-svm",
)  # fmt: skip
