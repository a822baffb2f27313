"""All studies of a workspace in one storage in memory, for a dashboard that must change none of them."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from fer_core.experiments.search.ledger import existing_study, studies_of


class JoinedStudies:
    """Copies of the studies of a workspace, with the trials that have ended.

    Args:
        workspace: the workspace.
        storage: `search.storage`.
    """

    def __init__(self, workspace: Path, storage: str) -> None:
        self.storage: BaseStorage = InMemoryStorage()
        self._workspace, self._from = workspace, storage
        self._copies: dict[str, int] = {}  # name -> id in `storage`

    @property
    def names(self) -> list[str]:
        """Return the names of the studies."""
        return [*self._copies]

    def refresh(self) -> None:
        """Copy new studies, and the trials that have ended since: all before the first that has not, in their order."""
        for study in studies_of(self._workspace, self._from):
            if (ledger := existing_study(study)) is None:
                continue
            copy = self._copy_of(ledger)
            for trial in ledger.get_trials(deepcopy=False)[self.storage.get_n_trials(copy) :]:
                if not trial.state.is_finished():
                    break
                self.storage.create_new_trial(copy, template_trial=trial)

    def _copy_of(self, ledger: optuna.Study) -> int:
        name = ledger.study_name
        if name not in self._copies:
            self._copies[name] = self.storage.create_new_study(ledger.directions, name)
        for key, value in ledger.user_attrs.items():
            self.storage.set_study_user_attr(self._copies[name], key, value)
        for key, value in ledger._storage.get_study_system_attrs(ledger._study_id).items():
            self.storage.set_study_system_attr(self._copies[name], key, value)
        return self._copies[name]
