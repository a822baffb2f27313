from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel

from fer_core.config import RunConfig, load_config
from fer_core.errors import ConfigError, DataError, FerError
from flows.forms.catalog import FORMS
from flows.forms.check import FormCheck
from flows.forms.form import LABELS, MORE, PRESET, SECTIONS
from flows.support.missing import INCOMING

EACH = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture
def clips(workspace):
    """A workspace in which every form finds what it needs."""
    (workspace / INCOMING).mkdir(parents=True)
    (workspace / "clips.csv").write_text("")


def opened(form: Any) -> dict[str, Any]:
    """What the UI sends of a form whose sections were all opened, with nothing changed."""
    return {name: json.loads(json.dumps(p.default)) for name, p in form.parameters.items()}


def leaves(properties: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """The dotted settings that a form shows, as their descriptions name them."""
    for shown in properties.values():
        refs = [shown, *shown.get("anyOf", [])]
        nested = [definitions[r["$ref"].rpartition("/")[2]] for r in refs if "$ref" in r]
        nested = [d for d in nested if not str(shown.get("description", "")).endswith("`)")]
        if nested:
            yield from leaves(nested[0]["properties"], definitions)
        elif shown.get("description", "").endswith("`)"):
            yield shown["description"].rpartition("(`")[2].removesuffix("`)")


def settings_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from settings_of(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


@EACH
def test_a_form_shows_what_its_flow_reads_each_once_and_nothing_else(form):
    schema = form.schema()
    shown = list(leaves(schema["properties"], schema["definitions"]))
    read = [s for s in settings_of(RunConfig) if any(f"{s}.".startswith(f"{r}.") for r in form.reads)]
    own = [*form.own]  # `manifest` may be the flow's own parameter
    assert sorted(shown) == sorted(s for s in read if s != "tracking.uri" and s not in own)


@EACH
def test_five_parameters_stand_at_the_top_and_the_rest_in_closed_sections(form):
    schema = form.schema()
    assert len(form.first) <= 5
    for place, (name, shown) in enumerate(schema["properties"].items()):
        assert shown["position"] == place and shown["title"]
        if place >= len(form.first):
            assert name in SECTIONS and shown["default"] is None and shown["anyOf"][0]["type"] == "null"
    assert not schema["required"]  # Quick run sends no parameters


@EACH
def test_a_form_has_the_parameters_and_defaults_of_its_flow(form):
    module, _, function = form.flow.rpartition(".")
    parameters = inspect.signature(getattr(import_module(module), function).fn).parameters
    assert {name: p.default for name, p in parameters.items() if name != "config"} == {
        name: info.default for name, (_, info) in form.own.items()
    }


@EACH
def test_a_form_as_it_stands_means_the_defaults_also_with_every_section_open(form, clips):
    assert form.settings({})[1] == form.settings(opened(form))[1] == RunConfig()
    assert form.settings({}) == form.settings(opened(form)) or form.own


@EACH
def test_a_description_says_what_comes_out_and_what_is_next(form):
    assert form.about.count("**") == 2 and "Args" not in form.about
    assert "\n\nNext: " in form.about or form.name == "rerun"


def test_a_preset_holds_where_the_form_was_left_alone(clips):
    form = FORMS["search"]
    config = form.settings({**opened(form), PRESET: "demo", "search_trials": 9})[1]
    assert (config.search.trials, config.search.folds, config.preprocess.max_frames) == (9, 3, 8)


def test_a_model_brings_its_recipe_though_the_open_section_sends_every_field(clips):
    form = FORMS["train"]
    values = opened(form)
    values["train"]["model"] = "lstm"
    assert form.settings(values)[1].train == load_config(overrides=["train.model=lstm"]).train


def test_values_reach_their_settings(clips):
    form = FORMS["search"]
    values = {
        "search_trials": 3, "backbone_name": "vgg16", "preprocess": {"face": {"min_size": 0.3}},
        LABELS: {"classes": "seven"}, "search": {"lr": [0.001, 0.01]},
    }  # fmt: skip
    expected = [
        "search.trials=3", "backbone.name=vgg16", "preprocess.face.min_size=0.3", "classes=seven",
        "search.lr=[0.001, 0.01]",
    ]  # fmt: skip
    assert form.settings(values)[1] == load_config(overrides=expected)
    arguments = FORMS["reproduce-thesis"].settings({"only": [4], MORE: {"fixed_epochs": True}})[0]
    assert (arguments["only"], arguments["fixed_epochs"]) == ([4], True)


@pytest.mark.parametrize(
    "values, override",
    [
        ({"train": {"lr": 9}}, "train.lr=9"),
        ({"train": {"model": "svm", "lr": 0.1}}, None),
        ({"search_trials": "many"}, "search.trials=many"),
        ({"preprocess": {"face": {"min_neighbors": 0}}}, "preprocess.face.min_neighbors=0"),
        ({"train": {"momentum": 0.0, "nesterov": True}}, None),
    ],
)
def test_a_wrong_value_is_refused_by_the_sentence_of_the_command_line(clips, values, override):
    with pytest.raises(ConfigError) as refused:
        FORMS["search"].settings(values)
    if override:
        with pytest.raises(ConfigError) as typed:
            load_config(overrides=[override])
        assert str(refused.value).removeprefix("form: ") == str(typed.value).removeprefix(f"--set {override}: ")


def test_unknown_parameters_and_presets_are_refused(clips):
    with pytest.raises(ConfigError, match="form 'promote' has no 'train'; it has version, promote_min_mean_recall"):
        FORMS["promote"].settings({"train": {"lr": 0.1}})
    with pytest.raises(ConfigError, match="there is no 'thesis-9'; there are demo"):
        FORMS["search"].settings({PRESET: "thesis-9"})
    with pytest.raises(ConfigError, match=r"form: version: .*greater than or equal to 0 \(got -1\)"):
        FORMS["promote"].settings({"version": -1})


@pytest.mark.parametrize("name", [form.name for form in FORMS.values() if form.needs])
def test_what_is_not_there_is_named_before_a_run_exists(workspace, name):
    with pytest.raises(
        DataError, match=r"no manifest at .*clips\.csv|(no such file or folder:|there is no folder) .*incoming"
    ):
        FORMS[name].settings({})


def answer(check: FormCheck, method: str, path: str, body: Any) -> tuple[int, Any]:
    import httpx

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=check), base_url="http://prefect") as client:
            return await client.request(method, path, json=body)

    found = asyncio.run(ask())
    return found.status_code, found.json()


DEPLOYMENT = "/api/deployments/8a3c4be2-0000-4000-8000-000000000000"


@pytest.fixture
def check() -> FormCheck:
    """The check before an app that has one deployment, `promote`, and echoes what reaches it."""
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        known = {"parameters": {"version": 1}, "parameter_openapi_schema": FORMS["promote"].schema()}
        told = known if request.method == "GET" else {"came through": json.loads(await request.body())}
        await JSONResponse(told)(scope, receive, send)

    return FormCheck(app)


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("POST", "/create_flow_run", {"parameters": {"version": "two"}}),
        ("POST", "/schedules", [{"schedule": {}, "parameters": {"version": "two"}}]),
        ("PATCH", "/schedules/8a3c4be2-0000-4000-8000-000000000000", {"parameters": {"version": "two"}}),
        ("PATCH", "", {"parameters": {"version": "two"}}),
    ],
)
def test_the_server_refuses_a_wrong_value_wherever_it_is_written(check, method, path, body):
    status, told = answer(check, method, DEPLOYMENT + path, body)
    assert status == 409
    assert told["detail"].startswith("form: version: Input should be a valid integer")


@pytest.mark.parametrize(
    "path, body",
    [
        (f"{DEPLOYMENT}/create_flow_run", {"parameters": {"version": 2}}),
        (f"{DEPLOYMENT}/create_flow_run", {"parameters": {"version": {"__prefect_kind": "jinja", "template": "x"}}}),
        ("/api/flow_runs/filter", {"parameters": {"version": "two"}}),
        ("/api/ui/schemas/validate", {"schema": {"title": "of another flow"}, "values": {"version": "two"}}),
        ("/api/ui/schemas/validate", {"schema": FORMS["promote"].schema(), "values": {"version": 2}}),
    ],
)  # fmt: skip
def test_everything_else_reaches_prefect_unchanged(check, path, body):
    assert answer(check, "POST", path, body) == (200, {"came through": body})


@pytest.mark.parametrize(("busy", "status"), [(2, 201), (99, 503)])
def test_a_run_is_started_although_the_database_is_locked_for_a_moment(monkeypatch, busy, status):
    """Prefect answers 503, and Starlette raises the error again after that."""
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    monkeypatch.setattr("flows.forms.check._PAUSES_S", (0.0, 0.0, 0.0))
    asked: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.method == "GET":
            known = {"parameters": {}, "parameter_openapi_schema": FORMS["promote"].schema()}
            await JSONResponse(known)(scope, receive, send)
            return
        asked.append(await request.json())
        locked = len(asked) <= busy
        await JSONResponse({}, 503 if locked else 201)(scope, receive, send)
        if locked:
            raise OSError("database is locked")

    start = partial(answer, FormCheck(app), "POST", f"{DEPLOYMENT}/create_flow_run", {"parameters": {"version": 2}})
    if status == 503:
        with pytest.raises(OSError, match="locked"):
            start()
    else:
        assert start() == (status, {})
    assert asked == [{"parameters": {"version": 2}}] * min(busy + 1, 4)


def test_the_form_shows_a_sentence_at_its_field(check):
    body = {"schema": FORMS["promote"].schema(), "values": {"promote": {"min_stays": 7}}}
    _, told = answer(check, "POST", "/api/ui/schemas/validate", body)
    (section,) = told["errors"]
    assert not told["valid"] and section["property"] == "promote" and section["errors"][0]["property"] == "min_stays"
    assert section["errors"][0]["errors"][0].startswith("form: promote.min_stays: Input should be less than or equal")


def test_a_served_flow_runs_the_flow_with_the_settings_of_its_form(workspace, prefect_server, monkeypatch):
    from flows import promote
    from flows.forms import served

    seen: dict[str, Any] = {}

    class Recorder:
        @staticmethod
        def fn(**given: Any) -> dict[str, Any]:
            seen.update(given)
            return {}

    monkeypatch.setattr(promote, "promote_flow", Recorder)
    served.promote(version=3, promote_force=True)
    assert seen["version"] == 3 and seen["config"].promote.force
    with pytest.raises(FerError, match="form: version"):
        served.promote(version="three")
