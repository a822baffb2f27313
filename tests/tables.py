"""Small feature tables for tests: separable enough to learn, overlapping enough that settings differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import nn

from fer_core.clips.clip import Clip
from fer_core.dataset.table import FeatureTable, build_table
from fer_core.emotions import SIX
from fer_core.features.store import FeatureStore


def drawn_clips(tmp_path, n_subjects: int = 12) -> list[Clip]:
    """One clip of every emotion per subject; the files do not exist, only features are drawn."""
    return [
        Clip(
            id=f"s{s}/{e}", path=tmp_path / f"s{s}_{e}.mp4", subject=f"drawn:s{s}", emotion=e, dataset="drawn-synthetic"
        )
        for s in range(n_subjects)
        for e in SIX
    ]


def drawn_table(tmp_path, n_subjects: int = 12, frames: int = 4, d: int = 48, noise: float = 1.6) -> FeatureTable:
    """Frames around their emotion's centre, shifted by subject, noisy."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, d))
    shift = rng.normal(scale=0.5, size=(n_subjects, d))
    clips = drawn_clips(tmp_path, n_subjects)
    features = [
        (centres[i % 6] + shift[i // 6] + rng.normal(scale=noise, size=(frames, d))).astype(np.float16)
        for i in range(len(clips))
    ]
    store = FeatureStore(tmp_path / "store")
    return build_table(clips, features, [f"{i:032x}" for i in range(len(clips))], store, {"fingerprint": "0" * 32})


def with_views(table: FeatureTable, n_views: int) -> FeatureTable:
    """The table with more views of its features: noisy copies."""
    rng = torch.Generator().manual_seed(1)
    noise = [torch.randn(table.features.shape, generator=rng) for _ in range(n_views - 1)]
    return dataclasses.replace(table, views=tuple((table.features + n).half() for n in noise))


def with_maps(table: FeatureTable, n_views: int = 1) -> FeatureTable:
    """The table with maps of 3 channels by 4 x 4, for `small_block`: its features in another shape."""
    table = with_views(table, n_views)
    return dataclasses.replace(
        table, maps=tuple(t.reshape(len(t), 3, 4, 4) for t in (table.features, *table.views)), views=()
    )


def small_block() -> nn.Module:
    """A frozen last block with all that real ones have, of 48 features: convolution, normalisation, pooling."""
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    nn.init.uniform_(block[1].bias, 0.1, 0.2)
    return block.eval().requires_grad_(False)


def equal_heads(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two heads have the same weights, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
