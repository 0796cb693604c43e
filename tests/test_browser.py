"""The page as a reader meets it: JupyterLab in a real headless Chromium, run from the menu, driven by the keyboard."""

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

import pytest
from studies import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run"]  # fmt: skip
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab server on a copy of the notebooks (it saves what it opens)."""
    home = tmp_path_factory.mktemp("lab")
    for folder in ("notebooks", "reports", "ablations"):
        shutil.copytree(ROOT / folder, home / folder, ignore=shutil.ignore_patterns("store", "runs"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
         "--IdentityProvider.token=test", "--LabApp.news_url=None", f"--ServerApp.root_dir={home}", "--ServerApp.port_retries=0"],
        cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
             "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/api/status?token=test", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def page(lab):
    """Page 03, all cells run, the panel on the screen."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.goto(f"{lab}/lab/workspaces/test/tree/notebooks/03_scaler_branch.ipynb?token=test&reset")
        page.get_by_text("| Idle").wait_for(timeout=90_000)  # cells run before the kernel is up stay empty for good
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        start = time.monotonic()
        finished = page.get_by_text(re.compile(r"this page took \d+ s here"))
        for _ in range(240):  # cells below the screen are drawn when they are scrolled to
            if finished.count():
                break
            page.mouse.move(600, 600)
            page.mouse.wheel(0, 1200)
            time.sleep(0.5)
        print(f"\nthe page ran in the browser in {time.monotonic() - start:.0f} s: {finished.first.inner_text()}")
        show_panel(page)
        yield page
        browser.close()


def show_panel(page) -> None:
    """Scroll until the panel stays on the screen: cells above it are still being measured while we scroll."""
    for _ in range(40):
        page.locator(".scaler-panel").first.scroll_into_view_if_needed()
        page.wait_for_timeout(250)
        if read_out(page):
            return
    raise AssertionError("the panel is not on the screen")


def read_out(page) -> str:
    return page.locator(".panel-numbers [role=status]").first.inner_text()


def press(page, control: str, key: str) -> float:
    """Press `key` on a slider; seconds until a read-out has changed."""
    handle = page.locator(f".panel-{control} .noUi-handle").first
    handle.focus()
    before = page.locator(".panel-block").first.inner_html()
    start = time.monotonic()
    page.keyboard.press(key)
    page.wait_for_function("before => document.querySelector('.panel-block').innerHTML !== before", arg=before, timeout=20_000, polling=5)
    return time.monotonic() - start


def test_both_controls_answer_to_the_keyboard(page):
    start = read_out(page)
    assert "teacher" in start
    parameters = {}
    seconds = [press(page, "scaler", "ArrowLeft") for _ in range(4)]
    assert "between the two" in read_out(page)
    assert read_out(page) != start
    press(page, "scaler", "Home")
    student = read_out(page)
    assert "student, branch1 is gone" in student
    parameters[0] = re.search(r"([\d,]+)\nMACs", student).group(1)
    press(page, "scaler", "End")
    for _ in range(2):
        seconds.append(press(page, "expansion", "ArrowLeft"))
        parameters[len(parameters)] = re.search(r"([\d,]+)\nMACs", read_out(page)).group(1)
    assert len(set(parameters.values())) == 3
    aria = page.locator(".panel-block svg").first.get_attribute("aria-label")
    assert "expansion 1" in aria
    seconds += [press(page, "expansion", "ArrowRight") for _ in range(3)]
    print(f"\na move of the panel answers in {1e3 * statistics.median(seconds):.0f} ms (median of {len(seconds)})")


def test_nothing_on_the_page_failed(page):
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").filter(has_text="Error").count() == 0
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/panel.png")
        page.set_viewport_size({"width": 420, "height": 900})
        show_panel(page)
        page.screenshot(path=f"{folder}/panel-phone.png")
