"""The live panel as a reader takes it in hand: keyboard, mouse and finger, small and large screens, light and dark."""

import os

import numpy as np
import pytest
import torch
from live_page import FIXTURES, SIZES, drag, says, shown
from test_browser import CHROMIUM

from reducenet import drop_branch
from reducenet.course.panels.fade import material as panel

shipped_bench, panel_file, chromium, visit = FIXTURES
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH"),
]


def test_the_slider_answers_to_the_keyboard(visit, shipped_bench):
    view = visit()
    start = shown(view)
    assert says(view, "kind") == "teacher"
    assert says(view, "share") == "84.0 %"
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.id") == "scaler"
    view.keyboard.press("ArrowLeft")
    assert (says(view, "scaler"), says(view, "kind")) == ("0.95", "between the two")
    view.keyboard.press("Home")
    assert (says(view, "scaler"), says(view, "kind"), says(view, "share")) == ("0.00", "student", "16.4 %")
    index = view.evaluate("state.image")
    held = panel.picked(shipped_bench.held, 10)
    with torch.no_grad():
        expected = drop_branch(shipped_bench.teachers[4])(shipped_bench.data.normalise(held.images[index : index + 1]))[0].numpy()
    assert np.abs(shown(view) - expected).max() < 0.051
    assert view.locator("#scaler").get_attribute("aria-valuetext") == "0.00, student"
    view.wait_for_function("() => document.getElementById('live').textContent.startsWith('Scaler 0.00, student. The answer is')")
    assert view.locator("#deployed-parameters").inner_text() == "19,642"
    assert view.locator("#trained-parameters").inner_text() == "51,090"
    view.wait_for_function("() => /^[0-9.]+ ms$/.test(document.getElementById('ms').textContent)")
    view.keyboard.press("End")
    np.testing.assert_array_equal(shown(view), start)


def test_every_control_is_reached_with_the_tab_key_and_has_a_name(visit):
    view, seen = visit(), []
    for _ in range(12):
        view.keyboard.press("Tab")
        seen.append(view.evaluate("document.activeElement.id || document.activeElement.name"))
    assert seen[:8] == ["scaler", "pad", "another", "clear", "class", "expansion", "measure", "restore"]
    boxes = view.evaluate(
        """() => [...document.querySelectorAll("button, input")].map((node) => {
            const box = node.getBoundingClientRect();
            return [node.id || node.name, box.width, box.height, node.ariaLabel || node.textContent.trim()];
        })"""
    )
    assert [box for box in boxes if min(box[1:3]) < 44 or not box[3]] == []
    view.locator("[name=expansion]:checked").focus()
    view.keyboard.press("ArrowRight")
    assert (says(view, "expansion"), says(view, "share")) == ("8", "84.0 %")
    view.locator("[name=class]:checked").focus()
    view.keyboard.press("ArrowRight")
    assert view.evaluate("given.held.labels[state.image]") == int(view.locator("[name=class]:checked").get_attribute("value"))


@pytest.mark.parametrize("finger", [False, True])
@pytest.mark.parametrize("what", ["point", "slider"])
def test_point_and_slider_can_be_dragged_to_both_ends(visit, finger, what):
    view = visit("phone" if finger else "desk")
    says(view, "scaler")
    box = view.locator("#chart" if what == "point" else "#scaler").bounding_box()
    place = {0: box["x"] + (44 if what == "point" else 14), 1: box["x"] + box["width"] - (20 if what == "point" else 14)}
    height = box["y"] + box["height"] / 2
    for end in (0, 1):
        drag(view, (place[1 - end], height), (place[end], height + 3), finger)
        assert says(view, "scaler") == f"{end:.2f}"
        point = view.locator("#chart .dot").bounding_box()
        thumb = view.locator("#scaler").bounding_box()
        assert point["x"] + point["width"] / 2 == pytest.approx(thumb["x"] + 14 + end * (thumb["width"] - 28), abs=1)


@pytest.mark.parametrize("finger", [False, True])
def test_what_is_drawn_is_what_the_network_sees(visit, finger, shipped_bench):
    view = visit("phone" if finger else "desk")
    view.locator("#clear").click()
    empty = shown(view)
    box = view.locator("#pad").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    for i in range(8):
        drag(view, at(0.3, 0.25 + 0.06 * i), at(0.7, 0.25 + 0.06 * i), finger)
    assert says(view, "verdict") == "you drew it"
    assert np.abs(shown(view) - empty).max() > 1
    pixels = torch.tensor(view.evaluate("[...pad.pixels]"), dtype=torch.uint8).view(1, 1, 28, 28)
    assert pixels[0, 0, 9:15, 11:17].min() > 200
    assert pixels[0, 0, 22:].max() == 0
    with torch.no_grad():
        expected = shipped_bench.teachers[4](shipped_bench.data.normalise(pixels))[0].numpy()
    assert np.abs(shown(view) - expected).max() < 0.051
    assert view.locator("[name=class]:checked").count() == 0
    view.locator("#another").click()
    assert says(view, "verdict") != "you drew it"


def test_the_keyboard_draws_too(visit):
    view = visit()
    view.locator("#clear").click()
    before = shown(view)
    view.locator("#pad").focus()
    view.keyboard.press(" ")
    for key in ["ArrowUp"] * 6 + ["ArrowRight"] * 40 + [" "] + ["ArrowDown"] * 5:
        view.keyboard.press(key)
    assert np.abs(shown(view) - before).max() > 0.2
    pixels = np.array(view.evaluate("[...pad.pixels]")).reshape(28, 28)
    assert pixels[8].max() == 255 == pixels[8, 27]
    assert pixels[13, 20:].max() == 0  # the pen was lifted


def test_it_invites_until_a_hand_takes_over(visit):
    view = visit(still=False)
    view.wait_for_function("() => state.step < last", timeout=5000)
    view.wait_for_function("() => state.step === last", timeout=5000)
    view = visit(still=False)
    view.wait_for_function("() => state.step < last", timeout=5000)
    view.keyboard.press("Shift")
    stopped = view.evaluate("state.step")
    view.wait_for_timeout(700)
    assert view.evaluate("state.step") == stopped
    assert view.locator("#chart .hint").evaluate("(node) => getComputedStyle(node).opacity") == "0"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_jumps_and_nothing_sticks_out(visit, size, scheme):
    view = visit(size, scheme)
    says(view, "scaler")
    places = """() => [...document.querySelectorAll("main > *, main section > *, #logits li > :not(.tag), .sign, td > span")]
        .map((node) => node.getBoundingClientRect()).map(({ x, y, width, height }) => [x, y, width, height].map(Math.round))"""
    before = view.evaluate(places)
    for part in (*(dict(step=step) for step in (0, 1, 6, 13, 20)), dict(expansion="8"), dict(expansion="1"), dict(image=None)):
        view.evaluate("(part) => change(part)", part)
        says(view, "scaler")
        moved = [(a, b) for a, b in zip(before, view.evaluate(places), strict=True) if a[1::2] != b[1::2]]
        assert moved == [], part
    assert view.evaluate("document.documentElement.scrollWidth") == SIZES[size]["width"]
    if folder := os.environ.get("SCREENSHOTS"):
        view.evaluate("() => { picker.pick(33); change({ step: 5, expansion: '8' }); }")
        view.wait_for_timeout(800)
        view.screenshot(path=f"{folder}/live-{size}-{scheme}.png", full_page=True)
