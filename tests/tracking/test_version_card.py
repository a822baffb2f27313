"""The card of a registered version."""

from __future__ import annotations

from fer_core.tracking.run import start_run
from fer_core.tracking.version_card import LIMIT, version_card, with_evaluation, with_gate
from tests.saved_models import small_bundle


def test_a_card_says_data_numbers_licence_how_to_load_and_use(tracking, tmp_path):
    bundle = small_bundle(tmp_path)
    with start_run(tracking, "candidate", tags={"test_openings": "2"}) as run:
        run.log_metrics({"mean_recall": 0.8, "mean_recall_low": 0.7, "mean_recall_high": 0.9, "recall/fear": 0.5})
        run.log_metrics({"test/mean_recall": 0.75, "test/mean_recall_low": 0.6, "calibration/error": 0.041})
    card = version_card("face-emotion", 3, bundle, tracking.client.get_run(run.id))
    assert "80.0 [70.0, 90.0] %" in card and "fear 50 %" in card and "opened 2 times" in card
    once = tracking.client.get_run(run.id)
    once.data.tags["test_openings"] = "1"
    assert "the test set was opened once" in version_card("face-emotion", 3, bundle, once)
    assert 'load_model("models:/face-emotion/3")' in card and "calibration error | 4.1 %" in card
    assert "## Networks and licences" in card and "AI Act" in card and len(card) <= LIMIT


def test_a_version_that_was_not_measured_says_so(tracking, tmp_path):
    with start_run(tracking, "adopted") as run:
        pass
    card = version_card("m", 1, small_bundle(tmp_path), tracking.client.get_run(run.id))
    assert "not measured" in card and "| test set | none |" in card


def test_the_gates_latest_decision_stands_at_the_end_of_a_card_that_mlflow_accepts():
    card = with_gate(with_gate("a card", "refused"), "passed")
    assert card == "a card\n\n## Promotion\n\npassed"
    long = with_gate("x" * LIMIT, "y" * 2000)
    assert len(long) <= LIMIT and long.endswith("y" * 2000)


def test_evaluations_stay_on_a_card_when_the_gate_decides_again_and_the_newest_is_first():
    card = with_evaluation(with_gate("a card", "refused"), "- first (run 1).")
    card = with_gate(with_evaluation(card, "- second (run 2)."), "passed")
    evaluated = "## Evaluated on other people\n\n- second (run 2).\n- first (run 1)."
    assert card == f"a card\n\n{evaluated}\n\n## Promotion\n\npassed"
    for _ in range(20):
        card = with_evaluation(card, f"- {'x' * 400}.")
    assert len(card) <= LIMIT and card.startswith("a card") and card.endswith("passed") and "first" not in card
