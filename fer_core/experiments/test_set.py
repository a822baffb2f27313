"""Test-set evaluation, once per model, by the same scorer that serves the model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from fer_core.clips.clip import Split
from fer_core.clips.manifest import Manifest, fingerprint
from fer_core.config import PreprocessConfig
from fer_core.evaluation.lockbox import Opening, open_lockbox, refuse_seen
from fer_core.evaluation.metrics import clip_verdicts, evaluate
from fer_core.models.bundle import ModelBundle, subject_digest
from fer_core.preprocess.clip_rows import ClipRow, stored_faces
from fer_core.preprocess.faces import Faces
from fer_core.scoring.scorer import ClipScorer
from fer_core.store import cache_key
from fer_core.workspace import Workspace


def evaluate_on_test_set(
    bundle: ModelBundle,
    manifest: Manifest,
    rows: Sequence[ClipRow],
    cfg: PreprocessConfig,
    workspace: Workspace,
    seen: Collection[str] = (),
    course: Sequence[ClipRow] = (),
) -> Opening | None:
    """Evaluate the model on the test clips, by every rule. The result is stored and returned at later calls.

    The same weights with other preprocessing settings count as another candidate.

    Besides the metrics, the result of each rule has `verdicts` (clip digest -> predicted class), so that two models can
    be compared clip by clip without opening the lockbox again.

    Args:
        bundle: the model; `facts.subjects` names the subjects of its training clips.
        rows: rows of the usable clips, with those of the test set.
        seen: content digests of the clips used for training, early stopping and selection.
        course: rows of the clips' whole-course faces, if the model reads them.
    Returns:
        The test result; None if there are no test clips.
    Raises:
        DataError: a subject or clip of the test set was used in training.
        StoreError: the record of the lockbox is damaged.
    """
    test, chosen = test_clips(manifest, rows)
    if not chosen:
        return None
    met = {subject_digest(subject): f"subject '{subject}'" for subject in test.subjects}
    met |= {row.digest: f"clip '{row.clip}'" for row in chosen}
    refuse_seen(met, {*bundle.facts.subjects, *seen})

    def evaluate_test() -> dict[str, object]:
        scorer = ClipScorer(bundle, store_root=workspace.store)
        shown: Iterable[tuple[Faces, Faces | None]] = ((faces, None) for faces in stored_faces(chosen, workspace.store))
        if scorer.needs_course:
            whole = {row.clip: row for row in course}
            others = stored_faces((whole[row.clip] for row in chosen), workspace.store)
            shown = zip(stored_faces(chosen, workspace.store), others, strict=True)
        frames = [scorer.judge(faces, other).frames for faces, other in shown]
        offsets = np.concatenate([[0], np.cumsum([len(f) for f in frames])])
        labels = test.labels()
        subjects = [c.subject for c in test.clips]
        found: dict[str, object] = {}
        for rule in bundle.classifier.rules:
            verdicts, _ = clip_verdicts(np.concatenate(frames), offsets, np.arange(len(frames)), rule)
            numbers = evaluate(verdicts, labels, subjects, bundle.classes).to_json()
            places = {row.digest: int(v) for row, v in zip(chosen, verdicts, strict=True)}
            found[rule] = {**numbers, "verdicts": places}
        return found

    candidate = cache_key(
        weights=bundle.record.weights_sha256,
        clips=fingerprint(test, {r.clip: r.digest for r in chosen}),
        preprocess=cfg.model_dump_json(),
    )
    return open_lockbox(workspace.lockbox, _identity(manifest.of(Split.TEST)), candidate, evaluate_test)


def _identity(test: Manifest) -> str:
    """Return the key of a test set, made from its subjects and emotions.

    So other preprocessing settings, or clips lost by them, do not make it a new test set.
    """
    return cache_key(test=sorted([c.subject or c.id, str(c.emotion)] for c in test.clips))


def test_clips(manifest: Manifest, rows: Sequence[ClipRow]) -> tuple[Manifest, list[ClipRow]]:
    """Return the usable test clips and their rows, in the order of the manifest."""
    by_id = {row.clip: row for row in rows}
    test = manifest.with_clips(c for c in manifest.of(Split.TEST).clips if c.id in by_id)
    return test, [by_id[c.id] for c in test.clips]
