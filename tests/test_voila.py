"""A page as an application: `voila notebooks/03_scaler_branch.ipynb` runs it and shows it without its code, the panel alive."""

import re
import shutil

import pytest
from hands import idle_hands
from servers import in_smoke, served
from studies import ROOT
from test_browser import ARGUMENTS, CHROMIUM, FRAME, IDLE

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,  # two minutes, of which the page takes seconds
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH"),
]


def test_voila_shows_a_page_with_its_panel_alive(tmp_path):
    from playwright.sync_api import sync_playwright

    for name in ("reports", "ablations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("store", "runs"))
    page = in_smoke(ROOT / "notebooks" / "03_scaler_branch.ipynb", tmp_path / "notebooks")
    command = ["voila", str(page), "--no-browser", "--port={port}", "--Voila.ip=127.0.0.1", "--VoilaConfiguration.show_tracebacks=True"]
    home = {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    with served(command, tmp_path, "/voila/static/main.js", **home) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        view = browser.new_context(viewport={"width": 1200, "height": 1000}, reduced_motion="reduce").new_page()
        view.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())  # a network that does not answer takes minutes
        view.goto(address, timeout=IDLE, wait_until="commit")
        view.get_by_text("This page took").wait_for(timeout=IDLE)
        frame = view.locator(FRAME).element_handle().content_frame()
        assert idle_hands(view, frame, "keyboard") == []
        assert view.get_by_text("open_page").count() == 0
        assert view.locator("details").first.is_visible()
        browser.close()
