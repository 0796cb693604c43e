"""What lies off the scale of a figure is said there: arms by their mean, seeds by their number."""

import re

import numpy as np
import pandas as pd
import pytest

from reducenet.study.report import figures

SEEDS = 8
LABELS = {name: f"arm {name}" for name in ("base", "near", "collapsed", "gone", "high")}


@pytest.fixture
def values():
    draw = np.random.default_rng(0)
    made = pd.DataFrame({name: 86 + draw.normal(0, 0.5, SEEDS) for name in LABELS})
    made.loc[1, "collapsed"] = 10.0
    made["gone"] -= 70
    made.loc[5, "near"] = np.nan
    return made


def lines(axes) -> dict[int, np.ndarray]:
    """The seeds that a figure has on every line."""
    return {int(line.get_ydata()[0]): np.asarray(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"}


def told(axes, place: int) -> int:
    """How many seeds the edges of a line speak of."""
    said = [text.get_text() for text in axes.texts if round(text.get_position()[1] - 0.3, 6) == place]
    return sum(int(re.search(r"\d+", text).group()) for text in said)


def seen(axes, place: int) -> int:
    low, high = axes.get_xlim()
    return int(((lines(axes)[place] >= low) & (lines(axes)[place] <= high)).sum())


@pytest.mark.parametrize("high", [np.inf, 86.2])
def test_every_seed_is_drawn_or_counted(values, high):
    shown = ["base", "near", "collapsed", "high"]
    _, axes = figures.dots(values, LABELS, shown, {})
    figures.cut(axes, values, shown, 76.0, high)
    for place, arm in enumerate(values):
        if arm in shown:
            assert seen(axes, place) + told(axes, place) == values[arm].count()
        else:
            assert told(axes, place) == 0
    assert axes.get_xlim()[0] > 70
    assert any(text.get_text() == "◂ 1 seed off the scale" for text in axes.texts)
    assert any("▸" in text.get_text() for text in axes.texts) == (high < np.inf)


def test_where_nothing_is_off_the_scale_nothing_is_said(values):
    shown = ["base", "high"]
    _, axes = figures.dots(values[shown], {arm: LABELS[arm] for arm in shown}, shown, {})
    before, written = axes.get_xlim(), len(axes.texts)
    figures.cut(axes, values[shown], shown, 0.0)
    assert (axes.get_xlim(), len(axes.texts)) == (before, written)


@pytest.mark.parametrize("draw", ["accuracy", "difference"])
def test_a_report_counts_the_seeds_below_its_floor(values, draw):
    margin = {"margin": 0.5} if draw == "difference" else {}
    figure = getattr(figures, draw)(values, LABELS, baseline="base", name="test accuracy", absent={}, **margin)
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said.count("◂ 1 seed off the scale") == 1
    assert sum(text.startswith("◂ off the scale at") for text in said) == 1
    place = next(i for i, arm in enumerate([arm for arm in LABELS if draw == "accuracy" or arm != "base"]) if arm == "collapsed")
    assert told(figure.axes[0], place) == 1
    assert seen(figure.axes[0], place) == SEEDS - 1


def test_seeds_that_collapsed_stretch_the_scale_no_further_than_their_mean():
    assert figures.reach([]) == figures.reach([np.empty(0)]) == (0.0, 0.0)
    assert figures.reach([np.array([1.0, 2.0, 3.0])]) == (2 - figures.OFF_SCALE, 2 + figures.OFF_SCALE)
    assert figures.reach([np.array([20.0]), np.array([-3.0])]) == (-3 - figures.OFF_SCALE, 20 + figures.OFF_SCALE)
    assert figures.reach([np.array([100.0, 101.0])]) == (0.0, 100.5 + figures.OFF_SCALE)
    assert figures.reach([np.array([-4.0, -4.0, -4.0, -76.0])]) == (-23.0, 6.0)
    assert figures.reach([np.array([4.0, 4.0, 4.0, 76.0])]) == (-6.0, 23.0)
