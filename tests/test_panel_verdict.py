"""Page 06's panel: intervals and power against other libraries, and in a real Chromium every claim, every slider and what they say."""

import re

import numpy as np
import pytest
from live_page import SIZES, chromium, drawn, in_browser, panel_visit, says
from scipy import stats
from statsmodels.stats.power import TTestPower

from reducenet.course.evidence import Evidence, claims, records
from reducenet.course.panels.verdict import material as panel
from reducenet.course.panels.verdict import picture
from reducenet.course.panels.verdict.panel import live, shipped

FIXTURES = (chromium,)


@pytest.fixture(scope="module")
def given():
    return panel.material()


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory):
    out = tmp_path_factory.mktemp("verdict") / "panel.html"
    out.write_text(shipped().html, encoding="utf-8")
    return out


@pytest.fixture
def visit(chromium, panel_file):
    yield from panel_visit(chromium, panel_file)


# --- what is handed over ---------------------------------------------------------------------------------------------------------------


def test_intervals_are_scipys():
    d = np.array([0.4, -0.2, 1.1, 0.7, 0.9, 0.1])
    made = panel.intervals(d)
    assert len(made) == len(panel.SEEDS)
    for n, (mean, low, high) in zip(panel.SEEDS, made, strict=True):
        if n <= len(d):  # that of the first n
            expected = stats.t.interval(0.95, n - 1, d[:n].mean(), stats.sem(d[:n]))
        else:  # the spread of all, at that n
            expected = stats.t.interval(0.95, n - 1, d.mean(), d.std(ddof=1) / n**0.5)
        assert (low, high) == pytest.approx(expected, abs=1e-4)
        assert mean == pytest.approx((low + high) / 2, abs=1e-4)
    assert panel.intervals(d[:1]) == []


@pytest.mark.parametrize("comparisons", [1, 4, 11, 45])
def test_what_would_be_found_is_found_with_80_percent_power(comparisons):
    """By the distribution itself: statsmodels' solver stops early at small levels, its power function does not."""
    level = 0.05 / comparisons
    for n in panel.SEEDS:
        t = stats.t.ppf(1 - level / 2, n - 1)
        assert stats.nct.sf(t, n - 1, panel.detectable(n, level) * n**0.5) == pytest.approx(0.8, abs=1e-3)
    assert TTestPower().power(panel.detectable(8, 0.05), 8, 0.05) == pytest.approx(0.8, abs=1e-4)
    assert all(panel.detectable(n, level) > panel.detectable(n + 1, level) for n in range(3, 32))


def test_the_rows_are_those_of_the_studies(given):
    for name, told in given["claims"].items():
        claim = claims()[name].claim
        if not told["rows"]:
            continue
        report = records().of(claim)
        for row, (arm, against) in zip(told["rows"], claim.pairs, strict=False):
            assert row["contrast"]
            found = next(c for c in claims()[name].contrasts if (c.arm, c.against) == (arm, against))
            assert found == Evidence(claim.study).contrast(arm, against)  # one reading a pair, on every page
            assert (row["n"], row["reading"]) == (found.n, found.reading.marked)
            if 2 <= found.n <= panel.SEEDS[-1]:
                assert row["intervals"][found.n - 2] == pytest.approx([found.mean, found.low, found.high], abs=1e-4)
            values = report.values[[arm, against]].dropna()
            assert row["seeds"] == pytest.approx((values[arm] - values[against]).tolist(), abs=1e-4)
        controls = {report.labels[arm] for arm in claim.controls if arm != claim.pairs[0][1]}
        assert controls <= {row["arm"] for row in told["rows"]}


def test_it_starts_with_the_first_claim_that_has_rows(given):
    names = list(given["claims"])
    first = next(name for name in names if given["claims"][name]["rows"] and given["claims"][name]["rows"][0]["n"] >= 5)
    assert given["start"] == first
    assert panel.material("H5")["start"] == "H5"
    with pytest.raises(ValueError, match="no claim 'H99'; there are H1, H2"):
        panel.material("H99")


def test_a_picture_stands_beside_it():
    for claim in ("H5", "H8", "H20"):  # with rows, with rows far off the scale, and without
        made = live(claim=claim)
        assert made.png.startswith(b"\x89PNG")
        assert claims()[claim].claim.wording in made.alt


def test_the_picture_draws_every_seed_or_counts_it(given, monkeypatch):
    caught = []
    monkeypatch.setattr(picture, "png", lambda figure: caught.append(figure.axes[0]) or b"")
    picture.drawn(given | {"start": "H8"})
    (low, high), rows = caught[0].get_xlim(), [row for row in given["claims"]["H8"]["rows"] if row["n"] and not row["far"]]
    seeds = [line.get_xdata() for line in caught[0].lines if line.get_marker() == "|"]
    said = [text.get_text() for text in caught[0].texts]
    out = [sum(not low <= one <= high for one in of) for of in seeds]
    assert [int((re.findall(r", (\d+) seeds? off", text) or [0])[0]) for text in said] == out
    assert sum(out) > 0
    assert [len(of) for of in seeds] == [row["n"] for row in rows]
    assert all(low <= row["mean"] <= high for row in rows)


# --- in a browser ----------------------------------------------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_every_claim_says_what_its_rows_say(visit, given, size):
    view, away = visit(size), 0
    for name, told in given["claims"].items():
        view.locator(f"[name=claim][value={name}]").click()
        assert says(view, "id") == name
        assert (says(view, "wording"), says(view, "chinese")) == (told["wording"], told["chinese"])
        assert says(view, "text") == told["text"]
        assert drawn(view).locator(".stamp").get_attribute("data-kind") == told["kind"]
        assert view.locator("#plot .rows g").count() == len(told["rows"])
        shown = view.locator("#plot .rows .contrast").first.locator(".seed") if told["rows"] else None
        if told["rows"] and told["rows"][0]["n"] >= 2:
            assert view.evaluate("state.n") == told["rows"][0]["n"]
            assert shown.count() == told["rows"][0]["n"]
            mean, low, high = told["rows"][0]["intervals"][told["rows"][0]["n"] - 2]
            assert f"{abs(mean):.2f} ± {(high - low) / 2:.2f} points" in says(view, "power")
            low, high = view.evaluate("scale()")
            for row, text in zip(told["rows"], view.locator("#plot .rows text").all_text_contents(), strict=True):
                out = sum(not low <= seed <= high for seed in row["seeds"][: told["rows"][0]["n"]])
                away += out if not row["far"] else 0
                if row["far"]:
                    assert f"{'◂' if row['mean'] < low else '▸'} off the scale at" in text
                else:
                    assert f", {out} seed{'s' * (out > 1)} off the scale" in text if out else "off the scale" not in text
                    assert low <= row["mean"] <= high
        else:
            assert says(view, "empty")
    assert away > 0  # some networks have collapsed
    assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]


@in_browser
@pytest.mark.parametrize("size", SIZES)
def test_the_slider_goes_to_both_ends_and_nothing_jumps(visit, given, size):
    view = visit(size)
    told = given["claims"][given["start"]]

    def where():
        return drawn(view).evaluate(
            "[...document.querySelectorAll('svg, input, dl, .stamp')].map((node) => node.getBoundingClientRect().y + scrollY)"
        )

    places, slider = where(), view.locator("#n")
    for key, n in (("Home", 2), ("End", 32)):
        slider.focus()
        view.keyboard.press(key)
        assert says(view, "n") == str(n)
        assert f"{told['detectable'][n - 2]:.2f} points would be found" in says(view, "power")
        assert where() == pytest.approx(places, abs=0.6)
    assert drawn(view).locator("#plot .line.dashed").count() >= 1  # beyond what was measured
    box = slider.bounding_box()
    view.mouse.click(box["x"] + 3, box["y"] + 22)
    assert says(view, "n") == "2"
    assert "no result: too few" in says(view, "stage")
    view.mouse.click(box["x"] + box["width"] - 3, box["y"] + 22)
    assert says(view, "n") == "32"
    assert "enough for a verdict" in says(view, "stage")
    small = view.evaluate(
        "[...document.querySelectorAll('.claims span, #n')].filter((node) => node.offsetHeight < 44 || node.offsetWidth < 44).length"
    )
    assert small == 0


@in_browser
def test_claims_are_chosen_by_the_keyboard(visit, given):
    view, names = visit(), list(given["claims"])
    view.locator(f"[name=claim][value={names[0]}]").focus()
    for name in names[1:]:
        view.keyboard.press("ArrowRight")
        assert says(view, "id") == name
    view.wait_for_function("(name) => document.getElementById('live').textContent.startsWith(name)", arg=f"{names[-1]}: ")


@in_browser
def test_seeds_fall_in_one_by_one_until_a_hand_takes_over(visit, given):
    view, there = visit(still=False), given["claims"][given["start"]]["rows"][0]["n"]
    assert view.evaluate("state.n") < there
    view.wait_for_function("(n) => state.n === n", arg=there, timeout=20_000)
    view.locator(f"[name=claim][value={given['start']}]").evaluate("(node) => node.dispatchEvent(new Event('change'))")
    view.locator("#n").focus()
    view.keyboard.press("End")
    view.wait_for_timeout(600)
    assert view.evaluate("state.n") == 32
