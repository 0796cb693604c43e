"""Pages as a reader meets them: run in JupyterLab, their panels taken in hand; opened again where nothing is trusted; on GitHub."""

import re
import shutil
import time
from html import unescape

import nbformat
import pytest
from hands import idle_hands
from servers import in_smoke, jupyterlab
from studies import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--no-first-run"]  # fmt: skip
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH"),
]
PAGES = [file.stem for number in ("01", "03", "05") for file in sorted((ROOT / "notebooks").glob(f"{number}_*.ipynb"))]
pages = pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.slow if not page.startswith("03") else ()) for page in PAGES])
FRAME = "iframe[title$='live panel']"
IDLE = 120_000  # ms: a kernel imports torch, and the machine may be busy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of what a reader has, the pages in their smoke profile (Lab saves what it opens)."""
    root = tmp_path_factory.mktemp("reader")
    for name in ("reports", "ablations"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("store", "runs"))
    for page in PAGES:
        in_smoke(ROOT / "notebooks" / f"{page}.ipynb", root / "notebooks")
    return root


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    with jupyterlab(folder, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="module")
def stranger(folder, tmp_path_factory):
    """A Lab of somebody else, who has trusted none of these pages."""
    with jupyterlab(folder, tmp_path_factory.mktemp("stranger")) as address:
        yield address


def opened(chromium, address: str, page: str):
    """The page in this Lab, on a screen that can be touched; without motion that nobody asked for."""
    view = chromium.new_context(viewport={"width": 1200, "height": 1000}, has_touch=True, reduced_motion="reduce").new_page()
    view.goto(f"{address}/lab/workspaces/{page}/tree/notebooks/{page}.ipynb?token=test&reset")
    view.get_by_text("| Idle").wait_for(timeout=IDLE)  # cells run before the kernel is up stay empty for good
    return view


@pytest.fixture(scope="module")
def executed(chromium, lab, folder):
    """`executed(page)`: the page in Lab, all cells run from the menu, and saved; each once."""
    views = {}

    def run(page: str):
        if page not in views:
            view = opened(chromium, lab, page)
            view.get_by_role("menuitem", name="Run", exact=True).click()
            start = time.monotonic()
            view.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            view.get_by_text(re.compile(r"This page took \d+ s here")).wait_for(timeout=IDLE)
            print(f"\n{page} ran in the browser in {time.monotonic() - start:.0f} s")
            view.keyboard.press("Control+s")
            saved = folder / "notebooks" / f"{page}.ipynb"
            until = time.monotonic() + 30
            while "This page took" not in saved.read_text() and time.monotonic() < until:
                view.wait_for_timeout(200)
            views[page] = view
        return views[page]

    yield run
    for view in views.values():
        view.context.close()


@pages
def test_a_page_runs_in_lab_and_its_panel_is_alive(page, executed):
    view = executed(page)
    cells = nbformat.read(f"{ROOT}/notebooks/{page}.ipynb", 4).cells
    assert view.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").filter(has_text="Error").count() == 0
    frames = view.locator(FRAME)
    assert frames.count() == sum("panel" in cell.metadata.get("tags", []) for cell in cells) > 0
    for i in range(frames.count()):
        panel = frames.nth(i)
        panel.scroll_into_view_if_needed()
        frame = panel.element_handle().content_frame()
        assert [line for by in ("keyboard", "mouse", "finger") for line in idle_hands(view, frame, by)] == []
        frame.wait_for_function("() => Math.abs(innerHeight - document.documentElement.offsetHeight) <= 1", timeout=IDLE)
        assert abs(panel.bounding_box()["height"] - frame.evaluate("document.documentElement.offsetHeight")) <= 1
        assert not panel.locator("xpath=..").locator("img").is_visible()


def seen(view, where: str) -> list[str]:
    """The descriptions of the images there that are seen, whole, and not as a dot."""
    view.wait_for_function("(where) => [...document.querySelectorAll(where)].every((image) => image.complete)", arg=where)
    images = view.locator(where)
    there = [images.nth(i) for i in range(images.count())]
    return [image.get_attribute("alt") for image in there if image.is_visible() and image.evaluate("(node) => node.naturalWidth") > 200]


def pictures(page: str, folder) -> list[str]:
    """The descriptions of all pictures in the executed page: of panels, figures, drawings."""
    cells = nbformat.read(folder / "notebooks" / f"{page}.ipynb", 4).cells
    html = "".join("".join(o.data["text/html"]) for c in cells for o in c.get("outputs", []) if "text/html" in o.get("data", {}))
    outside = re.sub(r'srcdoc="[^"]*"', "", html)
    return [unescape(alt) for alt in re.findall(r'<img [^>]*?alt="([^"]+)"', outside)]


@pages
def test_where_nothing_is_trusted_pictures_stand_and_predictions_open(page, executed, chromium, stranger, folder):
    executed(page)
    view = opened(chromium, stranger, page)
    assert view.locator("iframe[srcdoc]").count() == 0
    found = seen(view, ".jp-OutputArea-output img")
    assert [alt for alt in pictures(page, folder) if alt not in found] == []
    answer = view.locator(".jp-OutputArea-output summary").first
    answer.click()
    assert view.locator(".jp-OutputArea-output details[open] p").first.is_visible()
    view.context.close()


# What is left of HTML by an allow list like GitHub's (html-pipeline's), with images in the page itself, which notebooks consist of.
GITHUB = {"a", "b", "blockquote", "br", "code", "dd", "details", "div", "dl", "dt", "em", "figcaption", "figure", "h1", "h2", "h3", "hr",
          "i", "img", "li", "ol", "p", "pre", "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "th", "thead",
          "tr", "ul"}  # fmt: skip


@pages
def test_on_github_pictures_stand_and_predictions_open(page, executed, chromium, folder, tmp_path):
    import nh3
    from nbconvert import HTMLExporter

    executed(page)
    html, _ = HTMLExporter(template_name="basic").from_filename(str(folder / "notebooks" / f"{page}.ipynb"))
    left = {"a": {"href"}, "img": {"src", "alt", "width", "height"}, "details": {"open"}}
    clean = nh3.clean(html, tags=GITHUB, clean_content_tags={"script", "style"}, attributes=left, url_schemes={"https", "data"})
    assert not re.search(r"<(iframe|script|style)|style=|data-", clean.replace("data:image", ""))
    file = tmp_path / "github.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{clean}", encoding="utf-8")
    view = chromium.new_context(java_script_enabled=False).new_page()
    view.goto(file.as_uri())
    images = view.locator("img")
    found = [images.nth(i).get_attribute("alt") for i in range(images.count()) if images.nth(i).bounding_box()["width"] > 200]
    assert [alt for alt in pictures(page, folder) if alt not in found] == []
    view.locator("summary").first.click()
    assert view.locator("details[open] p").first.is_visible()
    view.context.close()


def test_a_network_is_trained_beside_the_page_and_can_be_stopped(executed):
    view = executed("03_scaler_branch")
    train, stop = (view.get_by_role("button", name=name, exact=True) for name in ("Train", "Stop"))
    train.scroll_into_view_if_needed()
    assert view.get_by_label("learning rate").input_value() == "0.4"
    said = view.get_by_role("status").filter(has_text="held-out images right").last
    train.click()
    view.get_by_text(re.compile(r"done: \d+\.\d % of")).wait_for(timeout=60_000)
    assert said.is_visible()
    view.get_by_label("epochs").fill("60")
    view.keyboard.press("Tab")
    train.click()
    stop.click()
    view.get_by_text(re.compile(r"stopped: \d+\.\d % of")).wait_for(timeout=60_000)


def test_recorded_rows_are_chosen_in_lab(executed):
    view = executed("05_rivals_and_search")
    arm = view.get_by_label("does this arm")
    arm.scroll_into_view_if_needed()
    rows = view.locator("table").filter(has_text="difference (points)").last
    before = rows.inner_text()
    arm.select_option(index=3)
    view.wait_for_timeout(1500)
    assert rows.inner_text() != before
