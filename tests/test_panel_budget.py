"""Page 05's panel: what it is handed against the rows themselves, and in a real Chromium every budget against brute force."""

import itertools
import statistics

import numpy as np
import pandas as pd
import pytest
from live_page import SIZES, chromium, drag, drawn, in_browser, panel_visit, says
from studies import ROOT

from reducenet.course import recorded
from reducenet.course.panels.budget import material as panel
from reducenet.course.panels.budget.panel import live, shipped
from reducenet.course.panels.budget.picture import bought, front

FIXTURES = (chromium,)


@pytest.fixture(scope="module")
def given():
    return panel.material()


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory):
    out = tmp_path_factory.mktemp("budget") / "panel.html"
    out.write_text(shipped().html, encoding="utf-8")
    return out


@pytest.fixture
def visit(chromium, panel_file):
    yield from panel_visit(chromium, panel_file)


# --- what is handed over ---------------------------------------------------------------------------------------------------------------


def test_every_arm_is_its_rows(given):
    """By pandas, from the files: accuracies, costs, and no arm of a study on test images is left out or told twice."""
    told = {(study, arm["label"]): arm for arm in given["arms"] for study in arm["studies"]}
    networks, arms = set(), recorded.arms()
    for name in recorded.studies():
        rows = pd.read_csv(ROOT / "reports" / name / "results.csv").query("status == 'ok'")
        study = recorded.Evidence(name).study
        if study.data != "fashion-mini":
            continue
        for arm, own in rows.groupby("arm", sort=False):
            networks.add((str(study.chains[arm]), own.network.iloc[0], own.seed.iloc[0]))
            accuracies = set(np.round(own.test_accuracy * 100, 6))
            same = [a for a in arms if name in a.studies and accuracies <= set(np.round(a.test, 6))]
            (one,) = [a for a in same if a.cost == pytest.approx(own.ledger_macs.mean(), rel=1e-6)][:1]
            if len(one.studies) == 1:
                shown = told[name, study.label(arm)]
                assert shown["mean"] == pytest.approx(100 * own.test_accuracy.mean(), abs=1e-9)
                assert shown["chosen"] == pytest.approx(100 * own.val_accuracy.mean(), abs=1e-9)
                assert shown["macs"] == own.macs.iloc[0]
    assert len(given["arms"]) == len(networks)


def test_a_study_that_chose_on_validation_images_is_left_out(given):
    assert "recipe" not in given["studies"]
    assert all("recipe" not in arm["studies"] for arm in given["arms"])
    with pytest.raises(ValueError, match="no rows of study 'recipe'; there are every study, "):
        panel.material("recipe")


def test_tickets_are_worth_what_all_draws_are(given):
    plain, tickets = recorded.plain(), given["tickets"]
    assert {"quick", "expansion"} <= set(plain.studies)
    for k in range(1, tickets["n"] + 1):
        draws = itertools.combinations(range(tickets["n"]), k)
        chosen = [max(draw, key=lambda i: (plain.val[i], -i)) for draw in draws]
        assert tickets["worth"][k - 1] == pytest.approx(statistics.fmean(plain.test[i] for i in chosen), abs=1e-9)
    assert tickets["worth"][0] == pytest.approx(plain.mean)


def test_the_front_is_what_budgets_buy(given):
    steps = front(given["arms"])
    assert steps[-1] == max(given["arms"], key=lambda arm: arm["chosen"])
    for one, other in itertools.pairwise(steps):
        assert one["cost"] < other["cost"]
        assert one["chosen"] < other["chosen"]
    assert bought(given["arms"], cost=0) is None


def test_a_picture_stands_beside_it():
    made = live(study="methods")
    assert made.png.startswith(b"\x89PNG")
    assert "measured arms, test accuracy against training cost" in made.alt
    assert "<script" in made.html
    assert "http" not in made.html.replace("http-equiv", "").replace("http://www.w3.org", "")


# --- in a browser ----------------------------------------------------------------------------------------------------------------------


@in_browser
def test_every_budget_buys_what_brute_force_finds(visit, given):
    view = visit()
    found = view.evaluate(
        """(steps) => steps.map(([study, cost, macs]) => {
            Object.assign(state, { study, cost, macs });
            const arms = given.arms.filter((arm) => study === EVERY || arm.studies.includes(study));
            const inside = arms.filter((arm) => arm.cost <= budget("cost") && arm.macs <= budget("macs"));
            const names = (some) => some.map((arm) => arm.label);
            return [bought(inside)?.label ?? null, names(stairs(inside, "cost"))];
        })""",
        steps := [[study, cost, macs] for study in given["studies"] for cost in range(0, 121, 15) for macs in (0, 30, 60, 90, 120)],
    )
    for (study, *place), (best, stairs) in zip(steps, found, strict=True):
        limits = {}
        for axis, step in zip(("cost", "macs"), place, strict=True):
            low, high = given["ends"][axis]
            limits[axis] = low * (high / low) ** (step / given["steps"])
        arms = [arm for arm in given["arms"] if study == panel.EVERY or study in arm["studies"]]
        inside = [arm for arm in arms if arm["cost"] <= limits["cost"] and arm["macs"] <= limits["macs"]]
        expected = bought(inside)
        assert best == (expected and expected["label"])
        assert stairs == [arm["label"] for arm in (front(inside) if inside else [])]


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_every_control_goes_to_both_ends_and_nothing_jumps(visit, given, size):
    view = visit(size)

    def where():
        return drawn(view).evaluate(
            "[...document.querySelectorAll('h2, svg, input, select')].map((node) => node.getBoundingClientRect().y + scrollY)"
        )

    places, texts = where(), set()
    for name, ends in (("cost", (0, given["steps"])), ("macs", (0, given["steps"])), ("k", (1, given["tickets"]["n"]))):
        for key, end in zip(("Home", "End"), ends, strict=True):
            view.locator(f"#{name}").focus()
            view.keyboard.press(key)
            assert view.evaluate(f"state.{name}") == end
            texts.add(says(view, "inside" if name != "k" else "tickets"))
            assert where() == pytest.approx(places, abs=0.6)
    assert len(texts) == 4  # none inside, all inside, one ticket, all tickets
    for axis in ("cost", "macs"):
        view.locator(f"#{axis}-plane").scroll_into_view_if_needed()
        box = view.locator(f"#{axis}-plane").bounding_box()
        middle = box["y"] + box["height"] / 2
        drag(view, (box["x"] + box["width"] * 0.9, middle), (box["x"] + 2, middle), finger=size == "phone")
        assert view.evaluate(f"state.{axis}") == 0
        assert says(view, "name") == "nothing: every arm costs more"
        drag(view, (box["x"] + box["width"] * 0.1, middle), (box["x"] + box["width"] - 2, middle), finger=size == "phone")
        assert view.evaluate(f"state.{axis}") == given["steps"]
    for study in given["studies"]:
        view.locator("#study").select_option(study)
        assert drawn(view).evaluate("state.study") == study
        assert "are inside" in says(view, "inside")
    assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    small = view.evaluate("[...document.querySelectorAll('input, select, button')].filter((node) => node.offsetHeight < 44).length")
    assert small == 0


@in_browser
def test_it_says_what_it_shows(visit, given):
    view = visit()
    best = bought(given["arms"])
    assert says(view, "name") == best["label"]
    assert says(view, "mean") == f"{best['mean']:.1f} %"
    assert says(view, "sentence") == best["sentence"]
    assert says(view, "seeds") == " · ".join(f"{one:.1f}" for one in best["test"])
    place = "(one) => one.getAttribute('transform')"
    there = view.evaluate("(arm) => [planes.cost.x(arm.cost).toFixed(1), planes.cost.y(arm.mean).toFixed(1)].join(' ')", best)
    assert view.locator("#cost-plane .best").evaluate(place) == f"translate({there})"
    assert view.locator("#cost-plane .seeds line").count() == len(best["test"])
    view.evaluate("change({ cost: 60 })")
    low, high = given["ends"]["cost"]
    dear = [arm for arm in given["arms"] if arm["cost"] > low * (high / low) ** (60 / given["steps"])]
    assert drawn(view).locator("#cost-plane .arms .out").count() == view.locator("#macs-plane .arms .out").count() == len(dear)
    view.locator("#k").focus()
    view.keyboard.press("End")
    tickets = given["tickets"]
    assert f"The best of {tickets['n']}: {tickets['worth'][-1]:.2f} % expected" in says(view, "tickets")
    view.locator("#study").select_option("methods")
    few = says(view, "caution")
    assert few.endswith("no result. A number needs 5.") or "seeds, study methods" in few
    view.wait_for_function("() => document.getElementById('live').textContent.includes('arms are inside')")


@in_browser
def test_it_moves_by_itself_until_a_hand_takes_over(visit):
    view = visit(still=False)
    view.wait_for_function("() => state.cost < given.steps", timeout=10_000)
    view.locator("#k").focus()
    view.keyboard.press("End")
    stopped = drawn(view).evaluate("state.cost")
    view.wait_for_timeout(300)
    assert view.evaluate("state.cost") == stopped
    assert visit(still=True).evaluate("state.cost") == view.evaluate("given.steps")
