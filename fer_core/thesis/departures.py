"""Differences between a reproduction and the thesis, line by line: data, weights, training, machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from fer_core.clips.clip import Split
from fer_core.features.torch_backbone import normalization_named
from fer_core.published import MEAN_3_5, STD_3_5, TABLE_3_1, TRAINED_ON
from fer_core.thesis.reproduction import Outcome, Reproduction

Difference = tuple[str, str, str]


def departures(found: Reproduction) -> list[Difference]:
    """Return rows (property, thesis, here), also for properties that agree."""
    return [*_data(found), *_network(found), *_training(found)]


def fc_start(outcome: Outcome) -> str:
    """Describe the initial weights of the FC layers: ImageNet or random."""
    if not len(outcome.history):
        return "–"
    hidden = len(outcome.train.widths)
    if not outcome.pretrained:
        return "random weights" + ("" if outcome.train.pretrained_fc else ", as asked")
    which = " and ".join(str(place + 1) for place in outcome.pretrained)
    rest = "the last one random" if len(outcome.pretrained) == hidden else "the others random"
    return f"layer{'' if len(outcome.pretrained) == 1 else 's'} {which} from ImageNet, {rest}"


def widths_name(outcome: Outcome) -> str:
    """`4096–1024–6`."""
    return "–".join(map(str, (*outcome.train.widths, 6)))


def side_names() -> dict[Split, str]:
    """Table 3.2's sides, in its order."""
    return {Split.TRAIN: "training", Split.TEST: "test", Split.VALIDATION: "validation"}


def _data(found: Reproduction) -> Iterator[Difference]:
    data, cfg = found.data, found.preprocess
    kind = ", synthetic faces" if data.synthetic else ""
    theirs = ", ".join(
        f"{d.name} ({d.participants} people, {d.elicitation})" for d in TABLE_3_1 if d.name in TRAINED_ON
    )
    ours = ", ".join(n or "(unnamed)" for n in data.datasets)
    yield "databases", theirs, f"{ours} ({sum(data.people.values())} people{kind})"
    sides = side_names()
    here = ", ".join(f"{sum(data.clips.get(side, ()))} {name}" for side, name in sides.items())
    yield "clips", "631 training, 202 test, 21 validation", here
    how = "the manifest's own" if data.own_split else f"{found.split.scheme}, seed {found.split.seed}"
    yield "split", "by participant, shares of Table 3.2", f"by participant; {how}"
    yield "stopped on", "the validation clips", data.stopped_on
    frames = "n/2 … n" if cfg.selection == "second_half" else "all"
    yield "frames", "n/2 … n", frames + (f", at most {cfg.max_frames} a clip" if cfg.max_frames else "")
    yield (
        "faces",
        "Viola–Jones",
        f"Viola–Jones, {cfg.face.mode.replace('_', ' ')}; frames without a face are left out and counted",
    )
    yield "equalisation", "eq. 3.1–3.4", {"thesis": "eq. 3.1–3.4"}.get(cfg.equalize, cfg.equalize)
    yield "normalisation", _constants("eq. 3.5", MEAN_3_5, STD_3_5), _normalization(found.normalization)


def _constants(name: str, mean: Sequence[float], std: Sequence[float]) -> str:
    return f"{name}, mean {[round(m, 4) for m in mean]}, std {[round(s, 4) for s in std]}"


def _normalization(name: str) -> str:
    """Describe the normalisation constants that the code used; `a+b` are those of two joined networks."""
    if "+" in name:
        return "; ".join(_normalization(part) for part in name.split("+"))
    if name == "onnx":
        return "that of the ONNX file, backbone.onnx"
    used = normalization_named(name)
    title = {"imagenet": "eq. 3.5", "features": "the checkpoint's own"}.get(name, name)
    return "none: [0, 1] as it is" if name == "unit" else _constants(title, used.mean, used.std)


def _network(found: Reproduction) -> Iterator[Difference]:
    yield "convolutions", "VGG16, ImageNet weights, frozen", f"{found.backbone.label}, {_weights(found)}, frozen"
    yield (
        "FC layers start",
        "from ImageNet weights, the last one random",
        _each(found.outcomes, fc_start),
    )
    yield "FC widths", "4096–4096–6; second narrowed, to what is not given", _each(found.outcomes, widths_name)


def _training(found: Reproduction) -> Iterator[Difference]:
    yield (
        "learning rate, batch",
        "0.005 and 20 (Table 4.1), or 0.001 and 30 (§4.2.2)",
        _each(found.outcomes, lambda o: f"{o.train.lr:g} and {o.train.batch_size}"),
    )
    yield "optimiser", "Adam", _each(found.outcomes, lambda o: o.train.optimizer.capitalize())
    yield (
        "loss weights, 3 and 4",
        "larger for smaller classes; no formula",
        _each([o for o in found.outcomes if o.number > 2], lambda o: f"{o.train.class_weights}, mean 1") or "–",
    )
    yield "dropout", "not said (VGG16's own: 0.5)", _each(found.outcomes, lambda o: f"{o.train.dropout:g}")
    rule = "by eye: validation accuracy falls while training accuracy rises"
    words = {
        "thesis": "the same, of 5-epoch means; the last weights are kept",
        "never": "fixed number of epochs",
        "patience": "patience on the 5-epoch mean; the best weights are kept",
    }
    yield "stop", rule, _each(found.outcomes, lambda o: words[o.train.stopping])
    yield "most epochs", "170, 170, 260, 180 when stopped", _each(found.outcomes, lambda o: str(o.train.epochs))
    yield "seed", "not given", _each(found.outcomes, lambda o: str(o.train.seed))
    yield "a tie of votes", "not said", "the tied class with the higher mean score"


def _weights(found: Reproduction) -> str:
    weights = found.backbone.checkpoint
    known = {
        "auto": "its published weights",
        "imagenet": "ImageNet weights",
        "features": "torchvision's features weights (ImageNet)",
    }
    return known.get(weights, f"weights from {weights.rpartition('/')[2]}")


def _each(outcomes: Iterable[Outcome], what: Callable[[Outcome], str]) -> str:
    """Return one string if all implementations agree, else one for each number."""
    said = {o.number: what(o) for o in outcomes}
    if len(set(said.values())) <= 1:
        return next(iter(said.values()), "")
    return "; ".join(f"{number}: {text}" for number, text in said.items())
