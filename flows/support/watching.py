"""Look into a watched folder once, and score what arrived; used with and without Prefect."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fer_core.config import RunConfig
from fer_core.scoring.inputs import Item
from fer_core.workspace import Workspace
from flows.support.missing import watched

if TYPE_CHECKING:
    from fer_core.scoring.clip_score import ClipScore
    from fer_core.scoring.scorer import ClipScorer
    from fer_core.scoring.watch import WatchedFolder

log = logging.getLogger("fer_core.watch")  # below `fer_core`, whose messages Prefect shows


class Watcher:
    """Looks into the folder of some settings; keeps the champion loaded from one look to the next.

    Args:
        config: settings from `settle`.
    Raises:
        DataError: the folder is not there.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.folder = watched(config)
        self.workspace = Workspace.open(config.workspace)
        self._scorer: ClipScorer | None = None

    def once(self, progress: Callable[[int, int], None], wait: Callable[[float], None] = time.sleep) -> dict[str, Any]:
        """Score what has arrived; if files may still be written, wait once until they settle.

        Args:
            progress: called with (clips done, clips to read).
            wait: called with seconds.
        Returns:
            The numbers of new rows, by status and verdict, of files still being written, and the page.
        Raises:
            WatchBusyError: another process looks into the folder.
            RegistryError: something arrived, and there is no champion.
            StoreError: the results cannot be written.
        """
        from fer_core.scoring.watch import watched_folder

        cfg = self.config.watch
        with watched_folder(self.folder, self.workspace.watched, self.config.limits) as place:
            ready, waiting = place.look(cfg.settle_s)
            if waiting:
                wait(cfg.settle_s)
                ready, waiting = place.look(cfg.settle_s)
            rows = self._score(place, ready, progress) if ready else []
            _publish(place)
        return {
            "folder": str(place.folder),
            "clips": len(rows),
            "status": dict(Counter(row.status.value for row in rows).most_common()),
            "emotions": dict(Counter(str(row.emotion) for row in rows if row.emotion).most_common()),
            "still_being_written": waiting,
            "page": str(place.page),
        }

    def _score(self, place: WatchedFolder, ready: list[Item], progress: Callable[[int, int], None]) -> list[ClipScore]:
        from fer_core.scoring.batch import Batch
        from fer_core.scoring.tally import Tally
        from fer_core.tracking.batch_run import log_batch
        from fer_core.tracking.connection import connect

        scorer = self._champion()
        rows: list[ClipScore] = []
        for few in place.score(ready, scorer, self.workspace.store, progress):
            rows += few
            _publish(place)
        if rows:
            batch = Batch(rows, Tally.of(rows), place.out, 0)
            log_batch(connect(self.config.tracking, self.workspace.root), batch, scorer)
        return rows

    def _champion(self) -> ClipScorer:
        """Return the scorer of the version that is champion now."""
        from fer_core.tracking.connection import connect
        from fer_core.tracking.registry import champion_version
        from flows.support.champion import champion_scorer

        now = champion_version(connect(self.config.tracking, self.workspace.root))
        if self._scorer is None or self._scorer.version != str(now):
            self._scorer = champion_scorer(self.config)
            log.info("scoring with %s version %s", self._scorer.name, self._scorer.version)
        return self._scorer


def _publish(place: WatchedFolder) -> None:
    from fer_core.reports.feed import write_feed

    arrivals = place.publish()
    if arrivals is not None:
        write_feed(arrivals, place.folder.name, place.page)
