from __future__ import annotations

import shutil

import pytest

from fer_core.config import TrackingConfig
from fer_core.errors import TrackingError
from fer_core.tracking.connection import connect
from fer_core.tracking.promotion import promote
from fer_core.tracking.registry import load_champion, register
from fer_core.tracking.relocation import former_places, relocate
from fer_core.tracking.run import start_run
from tests.saved_models import small_bundle


@pytest.fixture(scope="session")
def champion(tmp_path_factory):
    """A workspace with a run, a registered model and a champion; it is not to be changed."""
    root = tmp_path_factory.mktemp("the old place") / "workspace"  # the spaces are meant
    root.mkdir()
    tracking = connect(TrackingConfig(), root)
    folder = tmp_path_factory.mktemp("candidate")
    with start_run(tracking, "candidate") as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_core.tracking.registry.prove_parity", lambda *_: 0.0)
        run.tracking.client.log_text(run.id, "here", "note.txt")
        version = register(tracking, small_bundle(folder), folder, run.id)
    promote(tracking, version, replacing=None)
    shutil.rmtree(root / "models", ignore_errors=True)  # the copy that a load keeps
    return root, run.id


@pytest.fixture
def copied(champion, tmp_path):
    new = tmp_path / "new place" / "workspace"
    shutil.copytree(champion[0], new)
    return new


@pytest.fixture
def moved(copied, champion):
    hidden = champion[0].with_name("hidden")
    champion[0].rename(hidden)
    yield copied
    assert not champion[0].exists(), "the old folder was made again"
    hidden.rename(champion[0])


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_workspace_elsewhere_is_refused_until_it_is_relocated(champion, how, request):
    old, run_id = champion
    new = request.getfixturevalue(how)
    with pytest.raises(TrackingError, match=r"moved or copied from .*the old place.*: ferflow doctor --relocate"):
        connect(TrackingConfig(), new)
    assert relocate(new) == [old]
    assert (former_places(new), relocate(new)) == ([], [])
    tracking = connect(TrackingConfig(), new)
    assert load_champion(tracking).version == 1
    assert [f.path for f in tracking.client.list_artifacts(run_id)]
    with start_run(tracking, "after the move") as run:
        tracking.client.log_text(run.id, "new", "note.txt")
    assert tracking.client.get_run(run.id).info.artifact_uri.startswith(new.as_uri())


def test_nothing_of_a_relocated_copy_points_to_the_old_place(champion, copied):
    import sqlite3

    relocate(copied)
    with sqlite3.connect(copied / "mlflow.db") as connection:
        dump = "\n".join(connection.iterdump())
    assert str(champion[0]) not in dump and champion[0].as_uri() not in dump
    assert copied.as_uri() in dump


def test_the_original_of_a_copy_goes_on(champion, copied):
    relocate(copied)
    assert former_places(champion[0]) == []
    assert connect(TrackingConfig(), champion[0]).experiment_id


def test_a_link_to_a_workspace_is_no_move(champion, tmp_path):
    (tmp_path / "link").symlink_to(champion[0])
    assert former_places(tmp_path / "link") == []


def test_a_workspace_that_records_in_another_one_is_no_move(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    connect(TrackingConfig(), first)
    connect(TrackingConfig(uri=f"sqlite:///{first / 'mlflow.db'}", experiment="of the second"), second)
    assert former_places(first) == []


def test_artifacts_put_elsewhere_by_choice_stay_there(tmp_path):
    tracking = connect(TrackingConfig(), tmp_path)
    for number, place in enumerate(["s3://bucket/artifacts/x", "/srv/shared/mine", "mlflow-artifacts:/artifacts/1"]):
        tracking.client.create_experiment(f"own {number}", artifact_location=place)
    assert former_places(tmp_path) == []


def test_a_database_that_is_none_is_named(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db cannot be read \(file is not a database\)"):
        connect(TrackingConfig(), tmp_path)
