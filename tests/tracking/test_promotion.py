"""Promotion and rollback on a real server: races, kills and other people's hands."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from fer_core.errors import RegistryError
from fer_core.tracking.promotion import promote, rollback
from fer_core.tracking.registry import champion_version, load_champion, load_version


def test_promotion_remembers_whom_it_replaced_and_rollback_swaps_them(registered, no_champion):
    tracking, (one, two) = registered.tracking, registered.versions
    tracking.client.set_registered_model_alias("face-emotion", "challenger", str(two))
    promote(tracking, one, replacing=None)
    promote(tracking, two, replacing=one)
    assert registered.aliases == {"champion": two, "previous": one}
    assert rollback(tracking) == (one, two)
    assert registered.aliases == {"champion": one, "previous": two}
    assert rollback(tracking) == (two, one)


def test_rollback_without_a_past_is_refused(registered, no_champion):
    promote(registered.tracking, registered.versions[0], replacing=None)
    with pytest.raises(RegistryError, match="no previous champion to go back to"):
        rollback(registered.tracking)


def test_fault_96_promotion_judged_against_another_champion_is_told(registered, no_champion):
    tracking, (one, two) = registered.tracking, registered.versions
    promote(tracking, one, replacing=None)
    with pytest.raises(RegistryError, match=rf"judged against nobody, but the champion .* is now version {one}"):
        promote(tracking, two, replacing=None)
    assert registered.aliases["champion"] == one


def test_of_two_workspaces_that_promote_at_once_one_is_told_that_it_lost(registered, no_champion, tmp_path):
    """Fault 96. Both were judged against the same champion; whoever is told nothing is champion, or was replaced by
    a promotion that knew."""
    one, two = registered.versions
    places = [replace(registered.tracking, workspace=tmp_path / name) for name in ("a", "b")]
    for place in places:
        place.workspace.mkdir()
        load_version(place, two)  # so that both come to the lock at the same time
    for _ in range(3):
        promote(registered.tracking, one, replacing=champion_version(registered.tracking))
        rounds, told = Barrier(2), []

        def run(place, rounds=rounds, told=told):
            rounds.wait()
            try:
                promote(place, two, replacing=one)
            except RegistryError as exc:
                told.append(str(exc))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, places))
        assert champion_version(registered.tracking) == two
        assert len(told) == 1
        assert "another promotion of" in told[0] or "judged against version" in told[0]
    assert not lock_of(registered)


def lock_of(registered) -> list[str]:
    return [m.name for m in registered.tracking.client.search_registered_models() if m.name.endswith(".promotion")]


def test_a_promotion_under_way_elsewhere_is_told(registered, no_champion):
    tracking, one = registered.tracking, registered.versions[0]
    tracking.client.create_registered_model("face-emotion.promotion")
    try:
        with pytest.raises(RegistryError, match="another promotion of 'face-emotion' is under way"):
            promote(tracking, one, replacing=None)
        with pytest.raises(RegistryError, match="another promotion of 'face-emotion' is under way"):
            rollback(tracking)
        assert lock_of(registered)
    finally:
        tracking.client.delete_registered_model("face-emotion.promotion")
    assert champion_version(tracking) is None


def test_a_killed_promotion_does_not_lock_for_ever(registered, no_champion, monkeypatch):
    registered.tracking.client.create_registered_model("face-emotion.promotion")
    monkeypatch.setattr("fer_core.tracking.promotion.LOCK_S", 0)
    promote(registered.tracking, registered.versions[0], replacing=None)
    assert champion_version(registered.tracking) == registered.versions[0]
    assert not lock_of(registered)


def test_a_champion_replaced_by_other_means_at_the_same_moment_is_told(registered, no_champion, monkeypatch):
    tracking, (one, two) = registered.tracking, registered.versions
    real = tracking.client.delete_registered_model_alias

    def meanwhile(name, alias):
        real(name, alias)
        tracking.client.set_registered_model_alias(name, "champion", str(one))

    tracking.client.set_registered_model_alias(tracking.cfg.model, "challenger", str(two))
    monkeypatch.setattr(tracking.client, "delete_registered_model_alias", meanwhile)
    with pytest.raises(RegistryError, match=rf"at once version {one} took its place"):
        promote(tracking, two, replacing=None)
    assert not lock_of(registered)


def test_promoting_the_champion_changes_nothing(registered, no_champion):
    tracking, one = registered.tracking, registered.versions[0]
    promote(tracking, one, replacing=None)
    promote(tracking, one, replacing=one)
    assert "previous" not in registered.aliases


class _Killed(BaseException):
    """A process that ends without cleaning up."""


@pytest.mark.parametrize("seam", ["promotion", "previous", "champion"])
def test_fault_79_promotion_cut_off_anywhere_leaves_the_old_champion_and_can_be_repeated(
    registered, no_champion, seam, monkeypatch
):
    tracking, (one, two) = registered.tracking, registered.versions
    promote(tracking, one, replacing=None)
    real = {name: getattr(tracking.client, name) for name in ("set_registered_model_alias", "set_model_version_tag")}

    def dying(name):
        def call(*args):
            if seam in args:
                raise _Killed
            return real[name](*args)

        return call

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(tracking.client, name, dying(name))
        with pytest.raises(_Killed):
            promote(tracking, two, replacing=one)
    assert load_champion(tracking).version == one
    promote(tracking, two, replacing=one)
    assert registered.aliases == {"champion": two, "previous": one}
