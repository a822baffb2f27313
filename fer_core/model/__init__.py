"""Faces -> features -> frame scores -> verdict: the frozen convolutions, the trained head, the clip rules."""
