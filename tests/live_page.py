"""The live panel in a real Chromium, from a file: what tests of it share."""

import numpy as np
import pytest
from test_browser import ARGUMENTS, CHROMIUM

from reducenet.course.panels.fade.material import shipped
from reducenet.course.panels.fade.panel import live

SIZES = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 800}}


def in_browser(test):
    """The marks of a test, or of a class of them, that opens a browser."""
    needs = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH")
    return pytest.mark.engine(needs(test))


@pytest.fixture(scope="module")
def shipped_bench():
    return shipped()


@pytest.fixture(scope="module")
def panel_file(shipped_bench, tmp_path_factory):
    out = tmp_path_factory.mktemp("live") / "panel.html"
    out.write_text(live(shipped_bench.data, shipped_bench.teachers).html, encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def panel_visit(chromium, file):
    """`visit(size)`: the panel in this file, opened. Afterwards: nothing was written to the console, and nothing was asked for."""
    contexts, heard = [], []

    def opened(size="desk", scheme="light", still=True, path=file):
        motion = "reduce" if still else "no-preference"
        context = chromium.new_context(viewport=SIZES[size], has_touch=size == "phone", color_scheme=scheme, reduced_motion=motion)
        contexts.append(context)
        view = context.new_page()
        view.on("console", lambda message: heard.append(message.text))
        view.on("pageerror", lambda error: heard.append(str(error)))
        view.on("request", lambda request: request.url.startswith(("data:", path.as_uri())) or heard.append(request.url))
        view.goto(path.as_uri())
        return view

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


@pytest.fixture
def visit(chromium, panel_file):
    yield from panel_visit(chromium, panel_file)


FIXTURES = (shipped_bench, panel_file, chromium, visit)  # a test file takes them all: one needs the other


def drawn(view):
    """Until two frames have been drawn."""
    view.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return view


def says(view, name):
    return drawn(view).locator(f"[data-says={name}]").first.inner_text()


def shown(view):
    """The logits on the screen, one digit each."""
    texts = drawn(view).locator("#logits .value").all_inner_texts()
    return np.array([float(text.replace("−", "-")) for text in texts])


def drag(view, start, end, finger):
    """From one place to another in 24 steps, with the mouse or with a finger."""
    steps = [[a + (b - a) * i / 24 for a, b in zip(start, end, strict=True)] for i in range(25)]
    if not finger:
        view.mouse.move(*start)
        view.mouse.down()
        for place in steps:
            view.mouse.move(*place)
        return view.mouse.up()
    touch = view.context.new_cdp_session(view)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [dict(x=start[0], y=start[1])]})
    for x, y in steps:
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [dict(x=x, y=y)]})
    return touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
