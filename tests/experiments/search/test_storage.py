from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import optuna
import psycopg
import pytest
from sqlalchemy import Engine, event

from fer_core.errors import StoreError
from fer_core.experiments.search.storage import open_storage


def test_a_study_on_postgresql_outlives_a_restart(postgres):
    """Fault: the restart ended the search with a traceback. Here it happens before every kind of call."""
    storage = open_storage(postgres.create("optuna"))
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")

    def restart_during(call):
        postgres.stop()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(call)
            time.sleep(0.3)
            postgres.start()
            return waiting.result()

    trial = restart_during(study.ask)
    assert restart_during(lambda: trial.suggest_float("x", 0, 1)) <= 1
    restart_during(lambda: trial.report(0.5, 0))
    restart_during(lambda: study.tell(trial, 0.7))
    (found,) = restart_during(lambda: study.get_trials(deepcopy=False))
    assert (found.state, found.value, found.intermediate_values) == (optuna.trial.TrialState.COMPLETE, 0.7, {0: 0.5})


def test_a_connection_that_is_cut_while_trials_are_read_is_outlived(postgres):
    """Optuna took the cut for a query that was too long, and asked again on the same connection."""
    storage = open_storage(postgres.create("optuna_cut"))
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 0.7)
    cut: list[str] = []

    def cut_once(connection, cursor, statement, *_):
        if "FROM trial_values" in statement and not cut:
            cut.append(statement)
            pid = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(postgres.url().replace("+psycopg", "")) as other:
                other.execute("SELECT pg_terminate_backend(%s)", [pid])
            time.sleep(0.1)

    with listening(Engine, "before_cursor_execute", cut_once):
        (found,) = optuna.load_study(study_name="s", storage=storage).get_trials(deepcopy=False)
    assert cut and found.value == 0.7


@contextmanager
def listening(target: object, name: str, function: Callable[..., None]) -> Iterator[None]:
    event.listen(target, name, function)
    try:
        yield
    finally:
        event.remove(target, name, function)


def test_what_is_wrong_with_a_call_is_told_at_once(postgres):
    storage = open_storage(postgres.create("optuna_wrong"))
    started = time.monotonic()
    with pytest.raises(KeyError):
        storage.get_trial(4711)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("url, said", [("mysql://h/d", "of no kind known"), ("postgresql://127.0.0.1:9/d", "refused")])
def test_storage_that_is_not_there_is_one_sentence(url, said):
    with pytest.raises(StoreError, match=said):
        open_storage(url)
