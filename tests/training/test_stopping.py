"""When a fit stops, on made-up curves."""

from __future__ import annotations

from fer_core.config import TrainConfig
from fer_core.training.stopping import Never, Patience, ThesisRule, stopping_rule


def stops_at(rule, train, validation):
    for epoch, (t, v) in enumerate(zip(train, validation, strict=True), start=1):
        if rule.update(t, v).stop:
            return epoch
    return None


def test_patience_waits_for_the_mean_not_for_one_lucky_epoch():
    flat_with_a_spike = [0.5] * 5 + [0.9] + [0.5] * 30
    stopped = stops_at(Patience(10), flat_with_a_spike, flat_with_a_spike)
    assert stopped is not None and stopped > 15


def test_patience_keeps_the_epoch_with_the_best_mean():
    rule = Patience(3)
    best = [epoch for epoch, v in enumerate([0.1, 0.3, 0.5, 0.4, 0.2, 0.1, 0.0], start=1) if rule.update(1, v).best]
    assert best[-1] == 4  # means: .1 .2 .3 .325 .3 .3 .24


def test_the_thesis_rule_needs_both_validation_falling_and_training_rising():
    rising, falling = [i / 40 for i in range(40)], [1 - i / 40 for i in range(40)]
    assert stops_at(ThesisRule(), rising, falling) == 10
    assert stops_at(ThesisRule(), rising, rising) is None
    assert stops_at(ThesisRule(), falling, falling) is None


def test_with_nothing_to_stop_on_all_epochs_run():
    assert isinstance(stopping_rule(TrainConfig(), validated=False), Never)
    assert isinstance(stopping_rule(TrainConfig(stopping="never"), validated=True), Never)
