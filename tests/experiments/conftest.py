"""The clips and models that comparisons are tested on."""

from __future__ import annotations

from tests.models.conftest import drawn  # noqa: F401  a fixture
