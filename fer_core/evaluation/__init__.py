"""Compute results from scores and labels: metrics, calibration, prediction sets, abstention, gate, lockbox, latency."""
