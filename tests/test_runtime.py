from __future__ import annotations

import pytest
import torch

from fer_core.runtime import set_threads


@pytest.fixture
def torch_as_it_is():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


def smallest_products(n: int) -> torch.Tensor:
    """n products that only a denormal number can hold; enough of them to be shared out to all threads."""
    return torch.full((n,), 1e-38) * 1e-3


def test_numbers_too_small_for_full_precision_are_zero_in_every_thread(torch_as_it_is):
    torch.set_flush_denormal(False)
    torch.set_num_threads(2)
    assert smallest_products(4_000_000).numpy().all(), "two threads have run, and kept them"
    set_threads(2)
    assert torch.get_num_threads() == 2
    assert not smallest_products(4_000_000).numpy().any()
