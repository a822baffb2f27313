"""Many trials -> the one to keep.

`space` turns Optuna's draws into a TrainConfig, `sampler` seeds them for every trial, `trial` runs one, `processes`
gives each a process of its own, `study` asks and tells, `choice` picks by the one-standard-error rule.
"""
