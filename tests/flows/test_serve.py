from __future__ import annotations

import subprocess
import sys

import pytest

from flows.serve import deployments, register


@pytest.fixture
def deployed(prefect_server):
    """(restart, read, client): register the deployment as a start of the servers does; read what Prefect has of it."""
    from prefect.client.orchestration import get_client
    from prefect.runner import Runner

    def restart() -> None:
        (deployment,) = deployments(["promote"])
        register(Runner(name="test"), deployment)

    with get_client(sync_client=True) as client:
        restart()
        yield restart, lambda: client.read_deployment_by_name("promote/promote"), client
        client.delete_deployment(client.read_deployment_by_name("promote/promote").id)


def test_what_was_set_in_the_ui_outlives_a_restart(deployed):
    from prefect.client.schemas.actions import DeploymentUpdate

    restart, read, client = deployed
    nightly = {"schedule": {"cron": "0 3 * * *", "timezone": "UTC"}, "active": False}
    update = {
        "schedules": [nightly], "concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
        "tags": ["ferflow", "ours"], "parameters": {"version": 3}, "paused": True,
    }  # fmt: skip
    client.update_deployment(read().id, DeploymentUpdate.model_validate(update))
    restart()
    found = read()
    assert [(s.schedule.cron, s.active) for s in found.schedules] == [("0 3 * * *", False)]
    assert found.global_concurrency_limit.limit == 1
    assert found.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    assert (found.tags, found.parameters, found.paused) == (["ferflow", "ours"], {"version": 3}, True)


def test_a_restart_updates_what_the_code_says(deployed):
    from prefect.client.schemas.actions import DeploymentUpdate

    restart, read, client = deployed
    ours = read()
    stale = {"description": "stale", "entrypoint": "gone.flow", "parameter_openapi_schema": {"type": "object"}}
    client.update_deployment(ours.id, DeploymentUpdate.model_validate(stale))
    restart()
    found = read()
    assert (found.id, found.description, found.entrypoint) == (ours.id, ours.description, "flows.forms.served.promote")
    assert found.parameter_openapi_schema == ours.parameter_openapi_schema


def test_parameters_that_no_longer_fit_are_reset_and_do_not_stop_the_start(deployed):
    """An update of ferflow may take a setting away that somebody had given in the UI."""
    from prefect.client.schemas.actions import DeploymentUpdate

    restart, read, client = deployed
    update = {"parameters": {"version": "three"}, "enforce_parameter_schema": False}
    client.update_deployment(read().id, DeploymentUpdate.model_validate(update))
    restart()
    assert read().parameters == {}


def test_the_process_that_serves_and_the_server_that_checks_load_no_torch(workspace):
    """They stay small and start fast; a run loads it in its own process."""
    code = "import sys; from flows.serve import deployments; from flows.forms import check; deployments()\n"
    subprocess.run(
        [sys.executable, "-c", code + "assert not {'torch', 'cv2', 'mlflow'} & set(sys.modules)"], check=True
    )


def test_a_watched_folder_has_one_schedule_until_a_start_without_it(prefect_server):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.runner import Runner

    from fer_core.config import WatchConfig
    from flows.serve import schedule_watch

    (deployment,) = deployments(["watch"])
    register(Runner(name="test"), deployment)
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("watch/watch")
        assert found.global_concurrency_limit.limit == 1
        client.create_deployment_schedules(found.id, [(CronSchedule(cron="0 3 * * *"), True)])
        for every_s in (60, 120):
            schedule_watch(WatchConfig(folder="/data/in", every_s=every_s))
        (ours,) = [s for s in client.read_deployment_schedules(found.id) if s.slug]
        assert ours.schedule.interval.total_seconds() == 120
        assert ours.parameters == {"watch_folder": "/data/in", "watch_settle_s": 10.0}
        schedule_watch(WatchConfig())
        assert [s.slug for s in client.read_deployment_schedules(found.id)] == [None]
        client.delete_deployment(found.id)
