"""Runs of a time when MLflow did not answer: they are kept, sent later, and equal to those of an undisturbed time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fer_core.config import SearchConfig, TrackingConfig, TrainConfig
from fer_core.errors import StoreError, TrackingError
from fer_core.experiments.search.study import open_study, search
from fer_core.experiments.search.trial import run_trial
from fer_core.features.store import FeatureStore
from fer_core.tracking import registry, sending, sync
from fer_core.tracking.connection import check_tracking, connect
from fer_core.tracking.run import continue_run, start_run
from fer_core.tracking.sync import send_unsent
from fer_core.tracking.trial import send_trial, tracked_trial
from tests.evaluation.drawn import history
from tests.executors import InProcess
from tests.proxy import relayed
from tests.saved_models import small_bundle
from tests.tables import drawn_table

CHANGING = {"ferflow.process", "ferflow.token", "mlflow.parentRunId"}  # tags that name a process or a run


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """A failed request fails at once, and MLflow is asked again at once."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(sending, "_AWAY_S", 0.0)
    monkeypatch.setattr(sending, "_away_until", {})


@pytest.fixture
def relay(mlflow_url):
    with relayed(mlflow_url) as relay:
        yield relay


@pytest.fixture
def tracking(relay, tmp_path):
    """A server that can be taken away, and an experiment of one test."""
    return connect(TrackingConfig(uri=relay.url, experiment=uuid.uuid4().hex), tmp_path)


def stored(tracking, run_id):
    """All that MLflow holds of a run, without what names a process or a run."""
    client = tracking.client
    run = client.get_run(run_id)
    points = {
        name: [(m.value, m.timestamp, m.step) for m in client.get_metric_history(run_id, name)]
        for name in run.data.metrics
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(client.download_artifacts(run_id, "", folder))
        files = {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if k not in CHANGING},
        "metrics": points,
        "data": [(d.dataset.name, d.dataset.digest, d.tags[0].value) for d in run.inputs.dataset_inputs],
        "files": files,
    }


def record(tracking, at=lambda step: None):
    """A run with a request of every kind; `at` is called before each step."""
    figure = Figure()
    figure.subplots().plot([1, 2])
    at(0)
    with start_run(tracking, "a run", tags={"kind": "test"}) as run:
        steps = [
            lambda: run.log_config(TrainConfig(lr=0.005)),
            lambda: run.log_data("clips", "ab" * 32, synthetic=True, source="/data/clips.csv"),
            lambda: run.log_history(history(), "fold0/"),
            lambda: run.log_metrics({"mean_recall": 0.5, "missing": float("nan")}, at_ms=1000),
            lambda: run.log_metrics({"mean_recall": 0.75}, at_ms=2000, step=1),
            lambda: run.log_figure(figure, "figures/line.png"),
            lambda: run.log_text("one", "note.txt"),
            lambda: run.log_config(TrainConfig(lr=0.001)),
            lambda: run.describe("what came of it"),
            lambda: run.rename("another name"),
        ]
        for number, step in enumerate(steps, 1):
            at(number)
            step()
        at(len(steps) + 1)
    return run


@pytest.mark.parametrize("gone", [(0, 99), (1, 5), (4, 99), (11, 99), (3, 6)])
def test_fault_91_a_run_whose_server_goes_away_is_sent_later_as_an_undisturbed_one(tracking, relay, gone):
    first, last = gone
    whole = record(tracking)

    def at(step):
        if step == first:
            relay.down()
        if step == last:
            relay.up()

    run = record(tracking, at)
    assert tracking.unsent.of(run.id).exists() and run.url == ""
    relay.down()
    relay.up()
    sent = send_unsent(tracking)
    assert len(sent.runs) == 1 and not tracking.unsent.runs() and not sent.refused
    assert stored(tracking, sent.runs[0]) == stored(tracking, whole.id)
    assert send_unsent(tracking).runs == ()
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 2


def test_offline_runs_need_no_server_and_are_sent_with_their_parents(relay, tmp_path):
    cfg = TrackingConfig(uri=relay.url, experiment="offline")
    whole = record(connect(cfg, tmp_path))
    relay.down()
    away = connect(cfg.model_copy(update={"offline": True}), tmp_path)
    check_tracking(away.cfg, tmp_path)
    with start_run(away, "parent") as parent:
        child = start_run(away, "child", parent=parent.id)
        child.finish()
        assert parent.save_view("Trials", ["lr"]) == ""
    run = record(away)
    with pytest.raises(TrackingError, match=r"is not asked, because tracking\.offline is set.*leave out --offline"):
        registry.champion_version(away)
    relay.up()
    tracking = connect(cfg, tmp_path)
    sent = send_unsent(tracking)
    assert len(sent.runs) == 3
    assert stored(tracking, sent.runs[2]) == stored(tracking, whole.id)
    made = [tracking.client.get_run(run_id) for run_id in sent.runs]
    assert [r.info.run_name for r in made] == ["parent", "child", "another name"]
    assert made[1].data.tags["mlflow.parentRunId"] == sent.runs[0]
    view = tracking.client.get_experiment(tracking.experiment_id).tags[
        f"mlflow.sharedViewState.ferflow-{sent.runs[0][:12]}"
    ]
    assert json.loads(view)["name"] == "Trials"
    assert run.id not in sent.runs, "a run kept offline has a token, and gets its id when it is sent"


def test_a_sync_cut_at_any_request_is_finished_by_the_next_and_stores_nothing_twice(tracking, relay, monkeypatch):
    whole = stored(tracking, record(tracking).id)
    relay.down()
    record(tracking)
    relay.up()
    real, cuts = sync.send, 0
    while True:
        calls = 0

        def cut(*args, limit=cuts, **kwargs):
            nonlocal calls
            calls += 1
            if calls > limit:
                raise KeyboardInterrupt
            real(*args, **kwargs)

        monkeypatch.setattr(sync, "send", cut)
        try:
            sent = send_unsent(tracking)
            break
        except KeyboardInterrupt:
            cuts += 1
    assert cuts > 8 and stored(tracking, sent.runs[0]) == whole
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 2


def test_a_server_that_goes_away_again_while_runs_are_sent_loses_none(tracking, relay):
    relay.down()
    for _ in range(3):
        record(tracking)
    relay.up()
    with pytest.raises(TrackingError):
        send_unsent(tracking, lambda done, of: relay.down())
    assert len(tracking.unsent.runs()) == 2
    relay.up()
    assert len(send_unsent(tracking).runs) == 2
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 3


def test_a_request_that_the_server_took_but_did_not_answer_is_stored_once(tracking, monkeypatch):
    """The connection is cut between the request and its answer: nobody knows whether it was taken."""
    create, log_batch = tracking.client.create_run, tracking.client.log_batch

    def cut(function, *args, **kwargs):
        from requests import ConnectionError as Cut

        function(*args, **kwargs)
        raise Cut("connection reset")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking.client, "create_run", partial(cut, create))
        with start_run(tracking, "a run") as run:
            patch.setattr(tracking.client, "log_batch", partial(cut, log_batch))
            run.log_metrics({"a": 1.0}, at_ms=1000)
    [run_id] = send_unsent(tracking).runs
    [found] = tracking.client.search_runs([tracking.experiment_id])
    assert found.info.run_id == run_id and len(tracking.client.get_metric_history(run_id, "a")) == 1


def test_a_run_that_a_living_process_writes_is_left_to_it_and_one_of_a_dead_process_is_killed(tracking, relay):
    code = (
        "import sys; from pathlib import Path; from fer_core.tracking.unsent import Unsent;"
        "Unsent(Path(sys.argv[1])).of('c' * 32).add({'run': {'name': 'left', 'experiment': sys.argv[2], 'tags':"
        " {'ferflow.token': 'c' * 32}, 'at_ms': 1}})"
    )
    subprocess.run([sys.executable, "-c", code, str(tracking.workspace), tracking.cfg.experiment], check=True)
    relay.down()
    mine = start_run(tracking, "mine")
    relay.up()
    sent = send_unsent(tracking)
    assert (len(sent.runs), sent.writing) == (1, 1)
    [left] = tracking.client.search_runs([tracking.experiment_id])
    assert (left.info.run_name, left.info.status) == ("left", "KILLED")
    mine.finish()
    assert len(send_unsent(tracking).runs) == 1


def test_a_run_continued_while_the_server_is_away_is_the_run_that_was_begun(tracking, relay, tmp_path):
    note = tmp_path / "note"
    continue_run(tracking, note, "search").log_metrics({"a": 1.0}, at_ms=1)
    relay.down()
    with continue_run(tracking, note, "search") as run:
        run.log_metrics({"b": 2.0}, at_ms=1)
    with continue_run(tracking, note, "search") as again:
        assert again.id == run.id
    relay.up()
    send_unsent(tracking)
    [found] = tracking.client.search_runs([tracking.experiment_id])
    assert found.data.metrics == {"a": 1.0, "b": 2.0} and found.info.status == "FINISHED"


def test_a_refused_run_stays_and_does_not_hold_up_the_others(tracking, relay):
    with start_run(tracking, "deleted for good") as lost:
        relay.down()
        lost.log_metrics({"a": 1.0})
    record(tracking)
    relay.up()
    path = tracking.unsent.of(lost.id).folder
    other = path.rename(path.with_name("f" * 32))
    sent = send_unsent(tracking)
    assert len(sent.runs) == 1 and [*sent.refused] == ["f" * 32] and "f" * 32 in sent.refused["f" * 32]
    assert other.is_dir()


def test_a_half_written_line_of_a_killed_process_is_left_out(tracking, relay):
    relay.down()
    run = start_run(tracking, "killed")
    with (tracking.unsent.of(run.id).folder / "requests.jsonl").open("a") as file:
        file.write('{"metrics": [["a", 1.')
    run.log_metrics({"b": 1.0}, at_ms=1)
    run.finish()
    relay.up()
    [run_id] = send_unsent(tracking).runs
    assert tracking.client.get_run(run_id).data.metrics == {"b": 1.0}


def test_a_full_disk_and_no_server_are_one_sentence(tracking, relay):
    relay.down()
    (tracking.workspace / "unsent").write_text("in the way")
    with pytest.raises(StoreError, match="unsent"):
        start_run(tracking, "nowhere")


def test_a_model_made_while_the_server_is_away_is_registered_once(tracking, relay, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "prove_parity", lambda *_: 0.0)  # it takes a process of its own
    cfg = TrackingConfig(uri=relay.url, experiment="made away", model="made-away")
    tracking = connect(cfg, tmp_path)
    folder = tmp_path / "models" / "one"
    folder.mkdir(parents=True)
    bundle = small_bundle(folder, seed=0)
    with start_run(tracking, "candidate") as run:
        relay.down()
        assert registry.register(tracking, bundle, folder, run.id) == registry.UNREGISTERED
    relay.up()
    real = sync.WaitingRun.remove
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sync.WaitingRun, "remove", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        send_unsent(tracking)
    assert sync.WaitingRun.remove is real
    sent = send_unsent(tracking)
    assert sent.versions == (1,) and registry.alias_version(tracking, registry.CHALLENGER) == 1
    assert len(tracking.client.search_model_versions("name='made-away'")) == 1
    assert registry.load_version(tracking, 1).bundle.digest == bundle.digest


SPACE = SearchConfig(trials=2, folds=2, widths=((), (8,)))


def tracked_search(cfg, workspace, table, path, job):
    study = open_study(workspace, table, SPACE, TrainConfig(epochs=2))
    tracking = connect(cfg, workspace)
    with continue_run(tracking, study.folder / "mlflow-run", f"search {study.name}") as run:
        found = search(study, table, path, SPACE, TrainConfig(epochs=2), InProcess(), job=job, parent_run=run.id)
        for _, folder in found:
            send_trial(tracking, folder, run.id)
    return tracking


def runs_of(tracking, keep=frozenset({"seconds", "ms_per_clip", "parameters"})):
    """Name -> a run without its measured times, and the name of its parent."""
    found = {r.info.run_id: r for r in tracking.client.search_runs([tracking.experiment_id])}
    told = {}
    for run_id, run in found.items():
        told[run.info.run_name] = run_told = stored(tracking, run_id)
        run_told["metrics"] = {
            k: [(v, s) for v, _, s in points] for k, points in run_told["metrics"].items() if k not in keep
        }
        run_told["tags"].pop("mlflow.note.content", None)  # says milliseconds
        parent = found.get(run.data.tags.get("mlflow.parentRunId", ""))
        run_told["parent"] = parent and parent.info.run_name
    assert len(told) == len(found)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["server", "postgresql"])
def test_fault_91_and_92_a_search_goes_on_without_mlflow_and_its_runs_end_the_same(
    backend, request, tmp_path, monkeypatch
):
    """A server on SQLite, and PostgreSQL itself: away from the second trial's first fit until the search has ended."""
    if backend == "server":
        relay = request.getfixturevalue("relay")
        uri, down, up = relay.url, relay.down, relay.up
    else:
        monkeypatch.setattr("fer_core.databases.OUTAGE_S", 0.2)
        postgres = request.getfixturevalue("postgres")
        uri, down, up = postgres.create("went_away"), postgres.stop, postgres.start
    table = drawn_table(tmp_path, n_subjects=4, d=8)
    path = FeatureStore(tmp_path / "store").tables.path(table.key)
    told = {}
    for name in ("undisturbed", "disturbed"):
        cfg = TrackingConfig(uri=uri, experiment=name)
        workspace = tmp_path / name
        workspace.mkdir()

        def job(folder, cfg=cfg, workspace=workspace, name=name):
            if name == "disturbed" and folder.name == "trial-0001":
                with monkeypatch.context() as patch:
                    patch.setattr("fer_core.tracking.trial.run_trial", lambda *a: (down(), run_trial(*a))[1])
                    return tracked_trial(cfg, workspace, folder)
            return tracked_trial(cfg, workspace, folder)

        tracking = tracked_search(cfg, workspace, table, path, job)
        if name == "disturbed":
            assert tracking.unsent.runs()
            up()
            sent = send_unsent(tracking)
            assert (sent.writing, sent.refused) == (0, {})
        told[name] = runs_of(tracking)
    assert told["disturbed"] == told["undisturbed"]
    assert {run["status"] for run in told["disturbed"].values()} == {"FINISHED"}
