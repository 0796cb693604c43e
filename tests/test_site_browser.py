"""The site as it lies in its folder: links, words, alive without a network, on a phone and a desk, light and dark, for those who listen."""

import ast
import re
from html.parser import HTMLParser
from itertools import product
from urllib.parse import unquote

import nbformat
import pytest
from hands import idle_hands
from studies import ROOT
from test_browser import ARGUMENTS, CHROMIUM

from reducenet.course.site import executed
from reducenet.course.site.build import build
from reducenet.words import KINDS, words

pytestmark = [pytest.mark.engine]
eyes = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome: `apt install chromium`, or put one on the PATH")
SIZES = {"phone": (390, 844), "desk": (1280, 800)}
LOOKS = list(product(SIZES, ("light", "dark")))
QUICK = [("desk", "light"), ("phone", "dark")]  # each size and each scheme once; the others are slow
VIEWS = [pytest.param(*look, marks=[] if look in QUICK else pytest.mark.slow, id="-".join(look)) for look in LOOKS]


PAGES = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
# Other values than the defaults, of every parameter that a page may have, on few images.
OTHERS = {"profile": "smoke", "dataset": "synthetic", "seed": 3, "expansion": 2, "scaler": 0.5, "width": 4, "epochs": 2, "lam": 0.25,
          "rank": 1, "temperature": 2.0, "keep": 2, "retrain": True}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def others():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executed, "SMOKE", OTHERS)
        yield


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The whole site, its pages with `OTHERS`: those that ran before as they are now, and panels, come from the cache."""
    said = []
    out = build(tmp_path_factory.mktemp("site") / "site", smoke=True, say=said.append)
    assert said[-1].startswith(f"{out / 'index.html'} · ")
    return out


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def look(chromium, site):
    """`look(size, scheme)`: an empty page. Afterwards: nothing was written to the console, and no request left the folder."""
    contexts, heard = [], []

    def opened(size="desk", scheme="light", still=True, scripts=True):
        width, height = SIZES[size]
        context = chromium.new_context(
            viewport={"width": width, "height": height}, has_touch=size == "phone", color_scheme=scheme, java_script_enabled=scripts,
            reduced_motion="reduce" if still else "no-preference")  # fmt: skip
        contexts.append(context)
        context.on("console", lambda message: heard.append(f"{message.page.url}: {message.text}"))
        context.on("weberror", lambda error: heard.append(str(error.error)))
        context.on("request", lambda request: request.url.startswith(("data:", site.as_uri())) or heard.append(request.url))
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


class Html(HTMLParser):
    """What a page refers to, and what of it can be referred to."""

    def __init__(self, text: str):
        super().__init__()
        self.refers, self.ids, self.images, self.headings, self.stack = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.refers += [attrs[name] for name in ("href", "src") if attrs.get(name) and not attrs[name].startswith("data:")]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.images += [attrs] if tag == "img" else []
        self.headings += [int(tag[1])] if re.fullmatch(r"h[1-6]", tag) else []


@pytest.fixture(scope="module")
def read(site):
    return {file: Html(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_run_with_other_parameters(site, page):
    names = [name for cell in nbformat.read(page, 4).cells if "parameters" in cell.metadata.get("tags", [])
             for name in re.findall(r"^(\w+): ", cell.source, re.MULTILINE)]  # fmt: skip
    cells = executed.executed([page], ROOT / "build" / "pages", smoke=True, say=lambda line: None)[page].cells
    (given,) = [cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert {name: value for name, value in OTHERS.items() if name in names} == literals(given)
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "it/s" not in o.text] == []
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        if "check" in tags:
            assert "☐ not tried yet" in cell.outputs[-1].data["text/plain"]
        if "panel" in tags:
            assert {"image/png", "text/html", "text/plain"} <= set(cell.outputs[-1].data)
    html = "".join(output.data.get("text/html", "") for output in outputs if "data" in output)
    assert "<svg" not in re.sub(r'srcdoc="[^"]*"', "", html)  # stripped where nobody trusts the page
    assert re.findall(r"<img (?![^>]*alt=\"[^\"]{10})[^>]{0,80}", re.sub(r'srcdoc="[^"]*"', "", html)) == []
    assert not [o for o in outputs if "image/png" in o.get("data", {}) and "text/html" not in o.data]  # a bare figure has no words


def literals(source: str) -> dict:
    """What a cell of assignments assigns."""
    return {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(source).body}


def test_every_link_leads_somewhere_inside(site, read):
    for file, html in read.items():
        for link in html.refers:
            if re.match(r"[a-z]+:", link):
                assert link.startswith("https://"), (file, link)
                continue
            path, _, anchor = unquote(link).partition("#")
            target = (file.parent / path).resolve() if path else file
            assert target.is_file(), (file, link)
            assert target.is_relative_to(site.resolve()), (file, link)
            assert not anchor or target not in read or anchor in read[target].ids, (file, link)


def test_all_is_there_and_it_is_light(site, read):
    index = (site / "index.html").read_text()
    for notebook in PAGES:
        title = re.search(r"^# (.+)$", nbformat.read(notebook, 4).cells[0].source, re.MULTILINE)[1]
        assert f">{title}</b>" in index
        assert f'href="{notebook.stem}.html"' in index
    for panel in (ROOT / "reducenet" / "course" / "panels").glob("*/panel.py"):
        assert f'href="panels/{panel.parent.name}.html"' in index
    runs = [file.relative_to(ROOT) for file in (ROOT / "reports").glob("*/runs/*.html")]
    assert len(runs) == index.count("/runs/")
    for file in [*(report.relative_to(ROOT) for report in (ROOT / "reports").glob("*/index.html")), *runs]:
        assert f'href="{file.as_posix()}"' in index
    grammar = (site / "words.html").read_text()
    assert all(f'id="{kind}-{name}"' in grammar for kind in KINDS for name in words(kind))
    sizes = {file: file.stat().st_size for file in site.rglob("*") if file.is_file()}
    played = {file: size for file, size in sizes.items() if file.parent.name == "runs"}  # a page for each; nobody opens all of them
    assert max(played.values()) < 25e3
    assert sum(sizes.values()) - sum(played.values()) < 15e6
    for file, html in read.items():
        assert all(image.get("alt") for image in html.images), file
        if file.parent == site:
            assert len(set(html.ids)) == len(html.ids), file
            assert html.headings.count(1) == 1, file
            assert all(b - a <= 1 for a, b in zip(html.headings, html.headings[1:], strict=False)), (file, html.headings)
            assert "$" not in re.sub(r"<(pre|code|script|style)\b.*?</\1>|<[^>]*>", "", file.read_text(), flags=re.DOTALL), file


def pages(site, kind: str) -> list:
    """The files of a kind. Reports are made alike: of them the claims, the shortest and the longest, with a run of each, unless `every`."""
    reports = sorted(site.glob("reports/*/index.html"), key=lambda file: (file.parent.name != "claims", file.stat().st_size))
    reports = reports if kind.startswith("every ") else [*reports[:2], reports[-1]]
    runs = [next(iter(sorted(folder.glob("*.html")))) for report in reports if (folder := report.parent / "runs").is_dir()]
    return {"page": sorted(site.glob("*.html")), "panel": sorted(site.glob("panels/*.html")), "report": reports, "run": runs}[
        kind.split()[-1]
    ]


EVERY = [pytest.param(f"every {kind}", marks=pytest.mark.slow) for kind in ("report", "run")]


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
@pytest.mark.parametrize("kind", ["page", "panel", "report", "run", *EVERY])
@eyes
def test_nothing_sticks_out_and_nothing_serious_is_in_the_way(look, site, size, scheme, kind):
    from axe_playwright_python.base import AXE_SCRIPT

    view, wrong = look(size, scheme), []
    for file in pages(site, kind):
        view.goto(file.as_uri())
        view.wait_for_function("() => [...document.querySelectorAll('iframe.panel')].every((frame) => frame.style.height !== '1200px')")
        wide = view.evaluate("document.documentElement.scrollWidth")
        wrong += [f"{file.name} is {wide} px wide"] if wide > SIZES[size][0] else []
        if size == "phone":  # and a narrow one, or a page at 400 %
            view.set_viewport_size({"width": 320, "height": 640})
            wide = view.evaluate("document.documentElement.scrollWidth")
            wrong += [f"{file.name} is {wide} px wide on 320"] if wide > 320 else []
            view.set_viewport_size(dict(zip(("width", "height"), SIZES[size], strict=True)))
        view.evaluate(AXE_SCRIPT)
        found = view.evaluate("axe.run(document, { resultTypes: ['violations'], iframes: false, preload: false })")["violations"]
        wrong += [
            f"{file.relative_to(site)}: {one['id']}: {node['html'][:160]} {' '.join(node['failureSummary'].split())[:240]}"
            for one in found if one["impact"] in ("serious", "critical") for node in one["nodes"][:3]
        ]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize("size", ["desk", "phone"])
@eyes
def test_a_report_on_the_site_looks_as_the_one_that_is_committed(chromium, site, size):
    """Its cells stand as they do there: the site has the stylesheet apart and in fewer words."""
    for place in ("quick/index.html", "claims/index.html", "claims/H5.html"):
        page = chromium.new_page(viewport=dict(zip(("width", "height"), SIZES[size], strict=True)))
        cells = []
        for root in (ROOT, site):
            page.goto((root / "reports" / place).as_uri())
            cells.append(page.eval_on_selector_all(
                "th, td", "cells => cells.map(c => [getComputedStyle(c)].map(s => [c.innerText, s.textAlign, s.whiteSpace, s.display])[0])"
            ))  # fmt: skip
        page.close()
        assert cells[0] == cells[1]
        assert {"left", "right"} <= {align for _, align, *_ in cells[0]}


@pytest.mark.parametrize(("size", "by"), [("desk", "keyboard"), ("phone", "finger"), pytest.param("desk", "mouse", marks=pytest.mark.slow)])
@eyes
def test_every_control_of_every_panel_moves_something(look, site, size, by):
    view, wrong = look(size), []
    for file in pages(site, "panel"):
        if file.stem[0].isdigit():  # a page's own, on few networks
            continue
        view.goto(file.as_uri())
        wrong += [f"{file.stem}: {line}" for line in idle_hands(view, view, by)]
    assert wrong == []


@eyes
def test_a_page_moves_by_itself_and_its_frames_are_as_high_as_they_need(look, site):
    view = look(still=False)
    for file in pages(site, "page"):
        view.goto(file.as_uri())
        for handle in view.query_selector_all("iframe.panel"):
            frame = handle.content_frame()
            start = frame.evaluate("document.querySelector('main').innerHTML")
            frame.wait_for_function("(start) => document.querySelector('main').innerHTML !== start", arg=start, timeout=8000)
            handle.scroll_into_view_if_needed()
            # A frame hears of a new height in the picture after it.
            frame.wait_for_function("() => Math.abs(innerHeight - document.documentElement.offsetHeight) <= 1", timeout=8000)
            assert abs(handle.bounding_box()["height"] - frame.evaluate("document.documentElement.offsetHeight")) <= 1, file
        assert all(not image.is_visible() for image in view.query_selector_all("[data-without-scripts]")), file


@eyes
def test_without_scripts_the_pictures_stand_for_the_panels(look, site):
    view = look(scripts=False)
    for file in pages(site, "page"):
        view.goto(file.as_uri())
        frames, stills = view.locator("iframe.panel"), view.locator("[data-without-scripts]")
        assert frames.count() == stills.count()
        assert all(stills.nth(i).is_visible() and not frames.nth(i).is_visible() for i in range(stills.count())), file


@eyes
def test_the_way_through_the_course_by_keyboard(look, site):
    view = look()
    view.goto((site / "index.html").as_uri())
    view.keyboard.press("Tab")
    assert view.evaluate("document.activeElement.textContent") == "Skip to the text"
    assert view.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    view.keyboard.press("Enter")
    assert view.evaluate("document.activeElement.id") == "text"
    first = view.locator("nav li a").first
    first.focus()
    assert view.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    first.press("Enter")
    assert view.locator("nav [aria-current=page]").get_attribute("href") == view.url.rsplit("/", 1)[1]
    view.locator("summary").first.press("Enter")
    assert view.locator("details").first.get_attribute("open") is not None
    view.goto((site / "panels").as_uri() + "/" + pages(site, "panel")[0].name)
    view.get_by_text("← ReduceNet").click()
    assert view.url.endswith("/index.html#panels")
    view.locator("#reports ~ .cards a").first.click()
    view.get_by_text("← ReduceNet, all reports").click()
    assert view.url.endswith("/index.html#reports")
