"""A scorer and its videos."""

from __future__ import annotations

from tests.scoring.conftest import bundle, scorer, store_root, videos  # noqa: F401  fixtures
