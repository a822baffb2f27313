"""Benchmarks. They compute as the flows do: OpenMP threads wait passively, one per core."""

from fer_core.runtime import prepare_torch

prepare_torch()  # before torch is imported
