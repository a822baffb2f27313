"""Pretrained emotion networks beside trained models: rows of which nothing was trained (`ferflow adopt`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fer_core.config import RunConfig
from fer_core.dataset.dataset import Dataset
from fer_core.emotions import NAMED
from fer_core.evaluation.abstention import ranking
from fer_core.evaluation.lockbox import Opening
from fer_core.evaluation.metrics import by_columns, clip_verdicts, evaluate, paired_difference
from fer_core.experiments.adoption import (
    AdoptedEvaluation,
    adopted_backbone,
    adopted_classifier,
    evaluate_adopted,
    write_adopted,
)
from fer_core.experiments.comparison import Comparison, Entry
from fer_core.experiments.external_validation import ExternalResult, ExternalValidation
from fer_core.experiments.test_set import evaluate_on_test_set
from fer_core.features.known_weights import is_present
from fer_core.model_names import FACE_NETWORKS
from fer_core.workspace import Workspace

NO_TRAINING = "no training"


@dataclass(frozen=True)
class Untrained:
    """A network as it was published.

    Args:
        name: name of the network.
        compared: its evaluation on the clips of a comparison.
        external: its evaluation on external clips; None if there are none.
    """

    name: str
    compared: AdoptedEvaluation
    external: AdoptedEvaluation | None = None


def networks_here(config: RunConfig) -> tuple[str, ...]:
    """Return the networks whose weights are present, if they predict the classes of the settings; else none."""
    if not isinstance(config.classes, str) or config.classes not in NAMED:
        return ()
    return tuple(name for name in FACE_NETWORKS if is_present(name))


def evaluate_untrained(
    name: str, clips: Dataset, external: Dataset | None, config: RunConfig, workspace: Workspace
) -> Untrained:
    """Evaluate a network, each clip read against the person's own neutral face.

    Args:
        clips, external: the clips, with the faces that adopted networks read (`whole_course`).
        config: all settings; `preprocess` must be what these faces were made with.
    """
    backbone = adopted_backbone(name)
    classifier = adopted_classifier(backbone, "neutral", config)
    found = [
        evaluate_adopted(classifier, backbone, dataset, config, workspace) if dataset else None
        for dataset in (clips, external)
    ]
    assert found[0] is not None
    return Untrained(name, found[0], found[1])


def untrained_on_test_set(name: str, clips: Dataset, config: RunConfig, workspace: Workspace) -> Opening | None:
    """Evaluate a network on the test clips; the lockbox counts it like any other model. Arguments as above."""
    backbone = adopted_backbone(name)
    classifier = adopted_classifier(backbone, "neutral", config)
    bundle, _ = write_adopted(classifier, backbone, None, config, workspace)
    return evaluate_on_test_set(bundle, clips.manifest, clips.usable, config.preprocess, workspace)


def with_untrained(
    comparison: Comparison, networks: list[Untrained], clip_ids: tuple[str, ...], external: ExternalValidation | None
) -> tuple[Comparison, ExternalValidation | None]:
    """Add a row for each network to a comparison and to its external validation.

    Args:
        clip_ids: ids of the compared clips, in the order of the entries' scores.
    """
    rows = tuple(_entry(network, comparison.entries[0], clip_ids) for network in networks)
    comparison = replace(comparison, entries=(*comparison.entries, *rows))
    if external is not None:
        others = {n.name: _external(n.external) for n in networks if n.external is not None}
        external = replace(external, results={**external.results, **others})
    return comparison, external


def _entry(network: Untrained, first: Entry, clip_ids: tuple[str, ...]) -> Entry:
    """Return the network's row; the difference to the first row is taken on the clips that both predicted."""
    table = network.compared.table
    verdicts, scores = clip_verdicts(network.compared.scores, table.offsets, np.arange(table.n_clips), "mean_scores")
    places = {clip: i for i, clip in enumerate(clip_ids)}
    shared = [(i, places[clip]) for i, clip in enumerate(table.clip_ids) if clip in places]
    own, theirs = (np.array(side) for side in zip(*shared, strict=True))
    return Entry(
        name=network.name,
        title=f"expression network, {NO_TRAINING}",
        scores=scores,
        evaluation=network.compared.evaluation,
        ranking=ranking(scores, table.labels, table.subjects),
        difference=paired_difference(
            verdicts[own], first.scores.argmax(axis=1)[theirs], table.labels[own],
            [table.subjects[c] for c in own], len(table.classes),
        ),
        n_parameters=0,
        seconds=0.0,
        ms_per_clip=network.compared.ms_per_clip,
        histories=(),
        trained=False,
    )  # fmt: skip


def _external(found: AdoptedEvaluation) -> ExternalResult:
    table = found.table
    verdicts, _ = clip_verdicts(found.scores, table.offsets, np.arange(table.n_clips), "mean_scores")
    told = (verdicts, table.labels, table.subjects)
    return ExternalResult(evaluate(*told, table.classes), by_columns(*told, table.groups, table.classes))
