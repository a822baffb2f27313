"""Hyperparameter search: run many trials and select one.

`space` turns Optuna's parameters into a TrainConfig, `sampler` draws them with a seed for every trial, `trial` runs one
trial, `processes` runs each in its own process, `study` coordinates them, `estimate` says how long they take, `repeats`
cross-validates the best again, and `choice` selects one.
"""
