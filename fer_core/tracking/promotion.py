"""Promotion and rollback. The registry's alias is moved only after the version's files were loaded and checked."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fer_core.errors import RegistryError
from fer_core.tracking.approval import Approval, record_answer
from fer_core.tracking.connection import Tracking, mlflow_errors
from fer_core.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    alias_version,
    champion_version,
    load_version,
    registered_version,
)
from fer_core.tracking.version_card import with_gate

if TYPE_CHECKING:
    from mlflow.entities.model_registry import RegisteredModel

log = logging.getLogger(__name__)

LOCK_S = 120  # seconds after which the lock of a killed promotion is ignored; a promotion takes a few seconds


def promote(
    tracking: Tracking, version: int, *, replacing: int | None, note: str = "", approval: Approval | None = None
) -> None:
    """Make a version the champion, after its files were loaded and checked.

    Args:
        replacing: the champion that the gate compared the version with; None: there was none.
        note: decision of the gate, saved as a tag.
        approval: answer of the person who approved it, saved as tags; None: nobody was asked.
    Raises:
        RegistryError: the files are not the registered ones, another promotion is running, or the champion is not
            `replacing` any more.
    """
    load_version(tracking, version)
    name, client = tracking.cfg.model, tracking.client
    with _alone(tracking):
        now = champion_version(tracking)
        if now != replacing:
            was, became = (f"version {v}" if v else "nobody" for v in (replacing, now))
            raise RegistryError(
                f"version {version} was judged against {was}, but the champion of '{name}' is now {became}; "
                "promote it again"
            )
        if now == version:
            return
        with mlflow_errors(f"promoting version {version}", RegistryError):
            decision = note[:4200] or "promoted"
            if approval:
                record_answer(tracking, version, approval, decision)
                decision = f"{decision}\n\n{approval.sentence}"
            client.set_model_version_tag(name, str(version), "promotion", decision)
            card = registered_version(tracking, version).description or ""
            client.update_model_version(name, str(version), with_gate(card, decision))
            if now is not None:
                client.set_registered_model_alias(name, PREVIOUS, str(now))
            client.set_registered_model_alias(name, CHAMPION, str(version))
            if alias_version(tracking, CHALLENGER) == version:
                client.delete_registered_model_alias(name, CHALLENGER)
        _check_champion(tracking, version)
    log.info("version %d of '%s' is champion%s", version, name, f", after version {now}" if now else "")


def rollback(tracking: Tracking) -> tuple[int, int]:
    """Exchange the champion and the previous champion.

    Returns:
        The version of the new champion, and that of the old one.
    Raises:
        RegistryError: there is no previous champion, or its files are not the registered ones.
    """
    name, client = tracking.cfg.model, tracking.client
    with _alone(tracking):
        now, before = champion_version(tracking), alias_version(tracking, PREVIOUS)
        if now is None or before is None or now == before:
            raise RegistryError(f"'{name}' has no previous champion to go back to; promote a version instead")
        load_version(tracking, before)
        with mlflow_errors(f"rolling back to version {before}", RegistryError):
            client.set_registered_model_alias(name, CHAMPION, str(before))
            client.set_registered_model_alias(name, PREVIOUS, str(now))
        _check_champion(tracking, before)
    log.info("version %d of '%s' is champion again, after version %d", before, name, now)
    return before, now


def _check_champion(tracking: Tracking, version: int) -> None:
    """Check that the champion is still `version`; other programs may move the alias without the lock."""
    if (now := champion_version(tracking)) != version:
        raise RegistryError(
            f"version {version} was made champion, but at once {f'version {now}' if now else 'nobody'} took its place; "
            "somebody else moves the alias too"
        )


@contextmanager
def _alone(tracking: Tracking) -> Iterator[None]:
    """Lock promotions in all workspaces that share the registry.

    The lock is a registered model. Its name is unique in the registry's database, so only one of several simultaneous
    attempts to create it succeeds.

    Raises:
        RegistryError: another promotion is running, or this one took longer than `LOCK_S` and lost the lock.
    """
    from mlflow.exceptions import MlflowException

    name, client, owner = f"{tracking.cfg.model}.promotion", tracking.client, secrets.token_hex(16)
    busy = RegistryError(
        f"another promotion of '{tracking.cfg.model}' is under way; look at its result, then try again. One that was "
        f"killed holds the registry for {LOCK_S} s"
    )

    def holder() -> RegisteredModel | None:
        try:
            return client.get_registered_model(name)
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    with mlflow_errors(f"locking '{tracking.cfg.model}'", RegistryError):
        found = holder()
        if found is not None:
            if time.time() - found.creation_timestamp / 1000 < LOCK_S:
                raise busy
            client.delete_registered_model(name)
        try:
            client.create_registered_model(name, description=f"Lock of a promotion; gone when it ends. {owner}")
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            raise busy from exc
    try:
        yield
    finally:
        with mlflow_errors(f"unlocking '{tracking.cfg.model}'", RegistryError):
            found = holder()
            if found is None or not found.description.endswith(owner):
                raise RegistryError(
                    f"this promotion took longer than {LOCK_S} s, and another took over; look at who is champion"
                )
            client.delete_registered_model(name)
