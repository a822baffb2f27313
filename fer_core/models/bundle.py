"""A model on disk: exactly two files, `weights.safetensors` and `model.json`, neither of which contains code.

The convolutions are saved with the classifier, so loading a model needs no other file. `read_bundle` treats the files
as
untrusted: it checks file names, sizes, hashes, schema, tensor list, the architecture against a fixed list, and that all
numbers are finite. Finally it scores the canary: stored faces, which must give the stored scores.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import fer_core.models.registry  # noqa: F401  every kind of classifier is known from here on
from fer_core.clips.spelling import person_key
from fer_core.emotions import Classes
from fer_core.errors import FerError, RegistryError
from fer_core.features.backbone import Backbone, JoinedBackbone, Mirrored
from fer_core.features.descriptors.catalogue import describe, of_points
from fer_core.features.descriptors.descriptor import Source
from fer_core.features.inputs import ClipInputs
from fer_core.features.neutral_reference import NEUTRAL, neutral_reference
from fer_core.features.patterns import smooth_patterns
from fer_core.features.torch_backbone import backbone_from_state, normalization_named
from fer_core.features.weights import StateDict
from fer_core.models.base import ClipClassifier, build_classifier
from fer_core.models.record import FORMAT, BackboneRecord, ModelFacts, ModelRecord, TensorSpec
from fer_core.preprocess.landmarks import N_POINTS, with_landmarks
from fer_core.preprocess.store import PREPROCESS_VERSION
from fer_core.store import cache_key, publish, write_atomic

WEIGHTS, RECORD = "weights.safetensors", "model.json"
FILES = (RECORD, WEIGHTS)
_LARGEST = {WEIGHTS: 4 * 1024**3, RECORD: 4 * 1024**2}
INT8 = "engine.int8"  # name of the tensor with the int8 graph
_LARGEST_HEADER = 16 * 1024**2
CANARIES = 4
TOLERANCE = 1e-3  # largest difference of a canary's score between machines
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8"}


@dataclass(frozen=True)
class ModelBundle:
    """A model that was read from disk and passed all checks.

    Args:
        record: contents of `model.json`.
        backbone: the frozen backbone, ready to use; None if the classifier reads no features.
        classifier: the fitted classifier, ready to use.
        hashes: SHA-256 of both files, as in the tags of the registered version.
        int8: int8 graph of the backbone, for engines that compute it; empty if the model has none.
    """

    record: ModelRecord
    backbone: Backbone | None
    classifier: ClipClassifier
    hashes: Mapping[str, str]
    int8: bytes = b""

    @property
    def facts(self) -> ModelFacts:
        return self.record.facts

    @property
    def classes(self) -> Classes:
        return self.record.facts.classes

    @property
    def digest(self) -> str:
        """Digest of the whole model, 32 hex digits."""
        return bundle_digest(self.hashes)

    def frame_scores(self, inputs: ClipInputs) -> np.ndarray:
        """Predict (N, k) float32 scores of the frames of all clips in `inputs`; see `ClipClassifier.frame_scores`."""
        return self.classifier.frame_scores(inputs, np.arange(len(inputs.offsets) - 1))


def bundle_digest(hashes: Mapping[str, str]) -> str:
    """Return the digest, 32 hex digits, of the model whose files have these SHA-256 hashes."""
    return cache_key(model=dict(hashes))


def subject_digest(subject: str) -> str:
    """Return a digest of a subject's name, so that a model can recognise its training subjects without storing
    names."""
    return hashlib.blake2b(subject.encode(), digest_size=8).hexdigest()


def training_subjects(subjects: Iterable[str]) -> tuple[str, ...]:
    """Return what a model's record keeps of its subjects: two digests each, of the name as it is spelt and of what all
    its spellings share."""
    return tuple(
        sorted({digest for subject in subjects for digest in (subject_digest(subject), _any_spelling(subject))})
    )


def was_trained_on(facts: ModelFacts, subject: str) -> bool:
    """Return True if the model was trained on a subject, however the name is spelt."""
    return not {subject_digest(subject), _any_spelling(subject)}.isdisjoint(facts.subjects)


def _any_spelling(subject: str) -> str:
    return subject_digest(f"any spelling of {person_key(subject)}")


def write_bundle(
    folder: Path, classifier: ClipClassifier, backbone: Backbone | None, facts: ModelFacts, int8: bytes = b""
) -> ModelBundle:
    """Write a model's two files into `folder`, then read and return the model.

    Args:
        folder: an empty or new folder.
        backbone: required and saved if the classifier reads features, otherwise ignored.
        facts: everything about the model except its tensors.
        int8: int8 graph of the backbone, if it has one.
    Raises:
        RegistryError: the folder contains other files, or classifier and backbone do not fit together.
        StoreError: the files cannot be written.
    """
    if not classifier.reads_features:
        backbone = None
    _check_fit(classifier, backbone)
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".tmp-*"):  # left by a run that was killed
        left_over.unlink()
    if backbone is not None:
        backbone = backbone.on_cpu()  # canary scores must not depend on a GPU's rounding
    canary = smooth_patterns(CANARIES, facts.preprocess.size)
    described, learnt = classifier.to_record(), classifier.to_tensors()
    served = build_classifier(described, learnt, len(facts.classes))  # the convolutions hold a tuned block
    tensors = {f"classifier.{key}": value for key, value in learnt.items()}
    if backbone is not None:
        tensors |= {f"backbone.{key}": value for key, value in backbone.convolutions.items()}
    tensors["canary"] = torch.from_numpy(canary)
    if int8:
        tensors[INT8] = torch.frombuffer(bytearray(int8), dtype=torch.uint8)
    if of_points(classifier.descriptors):  # otherwise a machine without the network can score with the model too
        facts = facts.model_copy(update={"preprocess": with_landmarks(facts.preprocess)})
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    unfit = [key for key, value in tensors.items() if value.dtype not in _DTYPES]
    if unfit:
        raise RegistryError(f"{unfit[0]} is {tensors[unfit[0]].dtype}; a model holds {', '.join(map(str, _DTYPES))}")
    with publish(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    record = ModelRecord(
        format=FORMAT,
        preprocess_version=PREPROCESS_VERSION,
        facts=facts,
        backbones=tuple(
            BackboneRecord(
                name=part.name,
                source=part.source,
                weights_digest=part.weights_digest,
                normalization=part.normalization,
                output=part.output,
                onnx=part.onnx,
                mirror=part.mirror,
            )
            for part in (backbone.parts if backbone else ())
        ),
        classifier=described,
        tensors={key: TensorSpec(shape=tuple(v.shape), dtype=_DTYPES[v.dtype]) for key, v in tensors.items()},
        canary=tuple(map(tuple, _canary_scores(backbone, served, canary).tolist())),
        weights_sha256=_sha256(folder / WEIGHTS),
    )
    write_atomic(folder / RECORD, record.model_dump_json(indent=1).encode())
    return read_bundle(folder)


def read_bundle(
    folder: Path, expected_hashes: Mapping[str, str] | None = None, device: torch.device | None = None
) -> ModelBundle:
    """Read the model in `folder` and check it; nothing in it is executed or unpickled.

    Args:
        expected_hashes: file name -> SHA-256, from a source that is more trusted than the folder.
        device: device of the convolutions; the classifier stays on the CPU.
    Raises:
        RegistryError: a check failed; the message names it.
    """
    _check_files(folder)
    hashes = {name: _sha256(folder / name) for name in FILES}
    for name, expected in (expected_hashes or {}).items():
        if hashes.get(name) != expected:
            raise RegistryError(
                f"{folder / name} was altered: its SHA-256 is {hashes.get(name, 'missing')[:12]}…, registered was "
                f"{expected[:12]}…; do not use it, register the model again"
            )
    record = _read_record(folder / RECORD)
    if record.weights_sha256 != hashes[WEIGHTS]:
        raise RegistryError(f"{folder / WEIGHTS} is not the file its {RECORD} describes (SHA-256 differs)")
    tensors = _read_tensors(folder / WEIGHTS, record)
    int8 = tensors.pop(INT8).numpy().tobytes() if INT8 in tensors else b""
    bundle = ModelBundle(record, *_build(record, tensors, device), hashes, int8)
    scores = _canary_scores(bundle.backbone, bundle.classifier, tensors["canary"].numpy())
    worst = float(np.abs(scores - np.array(record.canary)).max()) if scores.shape == np.shape(record.canary) else 1.0
    if not worst <= TOLERANCE:
        raise RegistryError(
            f"{folder}: this installation predicts other scores than those saved with the model (difference "
            f"{worst:.3g}, allowed {TOLERANCE:g}); use ferflow "
            f"{record.facts.versions.get('ferflow', 'of its time')} or train again"
        )
    return bundle


def _check_files(folder: Path) -> None:
    try:
        present = {path.name: path.lstat() for path in folder.iterdir()}
    except OSError as exc:
        raise RegistryError(f"no model at {folder} ({exc.strerror or exc})") from exc
    if set(present) != set(FILES):
        extra, absent = sorted(set(present) - set(FILES)), sorted(set(FILES) - set(present))
        raise RegistryError(
            f"{folder}: a model is exactly {' and '.join(FILES)}; "
            + "; ".join(f"{what} {names[:3]}" for what, names in (("found also", extra), ("missing", absent)) if names)
        )
    for name, status in present.items():
        if not stat.S_ISREG(status.st_mode):
            raise RegistryError(f"{folder / name} is not a regular file")
        if status.st_size > _LARGEST[name]:
            raise RegistryError(f"{folder / name} has {status.st_size} bytes; at most {_LARGEST[name]} are accepted")


def _read_record(path: Path) -> ModelRecord:
    try:
        record = ModelRecord.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise RegistryError(
            f"{path}: not a model record that this version can read ({where}: {first['msg'][:200]}); "
            f"it reads format {FORMAT}; use the ferflow that made it, or train again"
        ) from exc
    if record.preprocess_version != PREPROCESS_VERSION:
        raise RegistryError(
            f"{path}: the model was trained on faces of preprocessing version {record.preprocess_version}, this "
            f"installation makes version {PREPROCESS_VERSION}; use the ferflow that made it, or train again"
        )
    return record


def _read_tensors(path: Path, record: ModelRecord) -> StateDict:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    needed = 8 + header + sum(spec.n_bytes for spec in record.tensors.values())
    if header > _LARGEST_HEADER or needed != path.stat().st_size:
        raise RegistryError(f"{path}: not a safetensors file of the tensors in {RECORD} (its header or size is wrong)")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            found = {key: TensorSpec(shape=tuple(s.get_shape()), dtype=s.get_dtype()) for key, s in slices.items()}
            if found != record.tensors:
                differing = sorted(k for k in {*found, *record.tensors} if found.get(k) != record.tensors.get(k))
                raise RegistryError(f"{path}: tensors differ from those in {RECORD}: {differing[:3]}")
            tensors = {key: file.get_tensor(key) for key in found}
    except (SafetensorError, ValidationError, OSError) as exc:
        raise RegistryError(f"{path}: not a safetensors file ({' '.join(str(exc).split())[:200]})") from exc
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise RegistryError(f"{path}: NaN or infinite numbers in {broken[:3]}")
    return tensors


def _build(
    record: ModelRecord, tensors: StateDict, device: torch.device | None
) -> tuple[Backbone | None, ClipClassifier]:
    """Build backbone and classifier from code and fill in the tensors; any mismatch raises RegistryError."""
    parts: dict[str, StateDict] = {"classifier": {}, "backbone": {}}
    for key, value in tensors.items():
        part, _, name = key.partition(".")
        if key != "canary":
            if part not in parts:
                raise RegistryError(f"{WEIGHTS}: tensor '{key[:60]}' belongs to no part of a model")
            parts[part][name] = value
    facts = record.facts
    canary = tensors.get("canary")
    wanted = (len(record.canary), facts.preprocess.size, facts.preprocess.size)
    if canary is None or canary.dtype != torch.uint8 or canary.shape != wanted:
        raise RegistryError(f"{WEIGHTS}: needs canary faces {wanted} uint8")
    try:
        backbone = _build_backbone(record.backbones, parts["backbone"], device)
        classifier = build_classifier(record.classifier, parts["classifier"], len(facts.classes))
        _check_fit(classifier, backbone)
    except (FerError, RuntimeError) as exc:
        raise RegistryError(f"{WEIGHTS} does not fit its {RECORD}: {' '.join(str(exc).split())[:300]}") from exc
    held = backbone.convolutions.keys() if backbone else set()
    digests = [part.weights_digest for part in backbone.parts] if backbone else []
    if held != parts["backbone"].keys() or digests != [named.weights_digest for named in record.backbones]:
        raise RegistryError(f"{WEIGHTS}: the convolutions are not those its {RECORD} names")
    return backbone, classifier


def _build_backbone(
    records: Sequence[BackboneRecord], tensors: StateDict, device: torch.device | None
) -> Backbone | None:
    """Build the model's networks. If there are several, join them; their tensor names then start with `0.`, `1.`, …"""
    if not records:
        return None
    states = [tensors]
    if len(records) > 1:
        states = [
            {k.removeprefix(f"{i}."): v for k, v in tensors.items() if k.startswith(f"{i}.")}
            for i in range(len(records))
        ]
    networks = [(r, _build_network(r, state, device)) for r, state in zip(records, states, strict=True)]
    parts = [Mirrored(network) if record.mirror else network for record, network in networks]
    return JoinedBackbone(parts) if len(parts) > 1 else parts[0]


def _build_network(record: BackboneRecord, tensors: StateDict, device: torch.device | None) -> Backbone:
    if record.onnx is None:
        normalization = normalization_named(record.normalization)
        return backbone_from_state(record.name, tensors, normalization, record.source, device, record.output)
    from fer_core.features.onnx_network import FILE, OnnxBackbone

    if tensors.keys() != {FILE}:
        raise RegistryError(f"an ONNX network is one tensor, '{FILE}'; got {sorted(tensors)[:3]}")
    return OnnxBackbone(tensors[FILE].numpy().tobytes(), record.onnx, record.source, record.output)


def _check_fit(classifier: ClipClassifier, backbone: Backbone | None) -> None:
    """Raise RegistryError if the classifier does not read as many features as the backbone computes."""
    if classifier.reads_features and backbone is None:
        raise RegistryError("the classifier reads features, but there are no convolutions")
    for record in (part.to_record() for part in classifier.parts if part.reads_features):
        taken = getattr(record, "n_features", 0)
        if backbone is not None and taken != backbone.n_features:
            raise RegistryError(f"the classifier takes {taken} features, {backbone.name} gives {backbone.n_features}")


def _canary_points() -> np.ndarray:
    """(4, 468, 3) points: nobody's, each on a straight way of its own."""
    start, way = np.random.default_rng(0).normal(size=(2, N_POINTS, 3))
    return np.stack([start + 0.1 * i * way for i in range(CANARIES)])


def _canary_scores(backbone: Backbone | None, classifier: ClipClassifier, canary: np.ndarray) -> np.ndarray:
    """Return (4, k) scores of the canary as the frames of one clip; its course is the first face, stretched step by
    step.

    So tracked points move smoothly. Between unrelated images, point tracking would differ from machine to machine.
    """
    features = np.empty((len(canary), 0), np.float16) if backbone is None else backbone.features(canary)
    course = np.stack([cv2.warpAffine(canary[0], _stretch(i), canary.shape[:0:-1]) for i in range(CANARIES)])
    shown: dict[Source, np.ndarray] = {"expression": canary, "course": course, "points": _canary_points()}
    described = describe(classifier.descriptors, shown)
    if classifier.reads_neutral and backbone is not None:
        described[NEUTRAL] = neutral_reference(backbone, course)[None]
    inputs = ClipInputs(features=torch.from_numpy(features), offsets=np.array([0, len(canary)]), described=described)
    return classifier.frame_scores(inputs, np.array([0]))


def _stretch(step: int) -> np.ndarray:
    return np.array([[1 + 0.01 * step, 0, 0], [0, 1 - 0.01 * step, 0]], dtype=np.float32)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
