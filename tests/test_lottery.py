"""The best of k tickets: who wins, and what that is worth. Against simulation and against what is known in closed form."""

import math
import subprocess
import sys

import numpy as np
import pytest

from reducenet.methods.lottery import bar, best_of, expected_gain
from reducenet.words import MoveError


def best(accuracies):
    return best_of(accuracies, "plain", max(2, len(accuracies)))


def test_best_of_takes_the_first_of_equals():
    assert best([0.5, 0.9, 0.7]) == 1
    assert best([0.5, 0.9, 0.9]) == 1
    assert best([0.0]) == 0


def test_a_ticket_that_diverged_never_wins():
    assert best([None, 0.0, 0.3, None]) == 2
    for none in ([], [None, None]):
        with pytest.raises(MoveError, match=f"^best_of: none of {len(none)} tickets"):
            best(none)


def test_one_ticket_is_no_choice():
    with pytest.raises(MoveError, match="^best_of: tickets must be at least 2, not 1"):
        best_of([0.9], "plain", 1)


def test_expected_gain_in_closed_form():
    assert expected_gain(1) == pytest.approx(0, abs=1e-8)
    assert expected_gain(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-8)
    assert expected_gain(3) == pytest.approx(3 / (2 * math.sqrt(math.pi)), abs=1e-8)
    # n = 4, 5: Bose and Gupta 1959, Moments of order statistics from a normal population
    assert expected_gain(4) == pytest.approx(6 / math.pi**1.5 * math.atan(math.sqrt(2)), abs=1e-8)
    assert expected_gain(5) == pytest.approx(5 / (2 * math.sqrt(math.pi)) * (6 / math.pi * math.atan(math.sqrt(2)) - 1), abs=1e-8)
    with pytest.raises(ValueError, match="at least 1"):
        expected_gain(0)


@pytest.mark.parametrize("k", [2, 4, 10, 50])
def test_expected_gain_is_what_a_simulation_gives(k):
    best = np.random.default_rng(k).standard_normal((100_000, k)).max(1)
    assert expected_gain(k) == pytest.approx(best.mean(), abs=5 * best.std() / 100_000**0.5)


@pytest.mark.parametrize(("k", "correlation"), [(3, 0.0), (3, 0.6), (5, 0.6), (5, 1.0)])
def test_a_choice_on_validation_gains_as_much_as_validation_knows_of_the_test(k, correlation):
    """A simulated study: the tickets' accuracies on the two sets are correlated, the winner is the best on validation."""
    studies, mean, spread = 4000, 0.9, 0.004
    draw = np.random.default_rng(0)
    validation, noise = draw.standard_normal((2, studies, k))
    test = mean + spread * (correlation * validation + math.sqrt(1 - correlation**2) * noise)
    validation = mean + spread * validation
    won = np.array([t[best(v)] for v, t in zip(validation, test, strict=True)])
    assert won.mean() == pytest.approx(bar(mean, spread, k, correlation), abs=5 * spread / studies**0.5)
    assert test.max(1).mean() == pytest.approx(bar(mean, spread, k), abs=5 * spread / studies**0.5)


def test_the_bar_of_one_ticket_is_the_mean_and_bad_input_is_refused():
    assert bar(0.9, 0.01, 1) == pytest.approx(0.9, abs=1e-9)
    for spread, correlation in ((-1, 1), (1, 1.5)):
        with pytest.raises(ValueError, match="spread must be at least 0"):
            bar(0.9, spread, 3, correlation)


def test_choosing_a_ticket_needs_no_torch():
    code = "import sys, reducenet.methods.lottery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
