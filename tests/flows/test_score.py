"""The form of the flow `score`."""

from __future__ import annotations

from prefect.utilities.callables import parameter_schema

from flows.score import score_flow


def test_a_click_on_score_cannot_run_without_paths():
    schema = parameter_schema(score_flow)
    assert schema.required == ["paths"] and schema.properties["paths"]["minItems"] == 1
