"""Hyperparameter search: run many trials and select one.

`space` turns Optuna's parameters into a TrainConfig, `sampler` draws them with a seed for every trial, `trial` runs one
trial, `processes` runs each in its own process, `study` coordinates them, and `choice` selects one by the
one-standard-error rule.
"""
