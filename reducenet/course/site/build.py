"""The site written: one folder, all links relative, nothing fetched from elsewhere. What cannot be shown ends the build and is named."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jinja2

from reducenet.course.evidence import project
from reducenet.course.site import contents, notebook
from reducenet.course.site.executed import PageError, executed, tidy
from reducenet.course.site.formulas import FormulaError

HERE = Path(__file__).parent
MARK = "words.html"  # every site has one beside its index.html
STALE = "*.ipynb", "*.md", "figures"  # of a report: what its pages say, or hold, already


def build(out: Path, *, smoke: bool = False, cache: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Writes the whole site to the folder `out` and returns it; an earlier site there is replaced, anything else is refused.

    Raises `PageError`, one line that names the page, where one does not run or has a formula or a link that leads nowhere.
    """
    if out.exists() and not out.is_dir():
        raise PageError(f"{out} is a file; name a folder")
    if out.exists() and any(out.iterdir()) and not (out / MARK).is_file():
        raise PageError(f"{out} holds something that is no site; name another folder")
    notebooks = sorted((project() / "notebooks").glob("[0-9]*.ipynb"))
    cache = cache or project() / "build" / "pages"
    panels = contents.panels(cache)
    pages = executed(notebooks, cache, smoke, say)
    tidy(cache)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        site = Site(Path(folder) / "site", {source.stem: pages[source] for source in notebooks}, panels, say)
        site.write()
        shutil.rmtree(out, ignore_errors=True)
        os.replace(site.folder, out)
    total = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    say(f"{out / 'index.html'} · {total / 1e6:.1f} MB")
    return out


class Site:
    """A site while it is written: what it is about, and which files its pages turned out to need."""

    def __init__(self, folder: Path, notebooks: dict, panels: list[contents.Panel], say: Callable[[str], None]):
        self.folder, self.notebooks, self.say = folder, notebooks, say
        self.pages = [contents.page(name, executed) for name, executed in notebooks.items()]
        self.panels, self.reports = panels, contents.reports()
        self.files = {panel.html: f"panels/{panel.name}.html" for panel in self.panels}  # what is in a frame -> its file

    def write(self) -> None:
        for kind in ("panels", "reports"):
            (self.folder / kind).mkdir(parents=True)
        for report in self.reports:
            self._copy(report.name)
        for name in self.notebooks:
            self._page(name)
        for html, file in self.files.items():
            (self.folder / file).write_text(html.replace("<main>", WAY_BACK + "<main>", 1), encoding="utf-8")
        self.say(f"panels: {len(self.files)}")
        kinds = contents.grammar()
        count = sum(len(kind["words"]) for kind in kinds)
        self._write("words.html", "words.html.j2", title="The grammar · ReduceNet", kinds=kinds)
        self._write("index.html", "index.html.j2", title="ReduceNet", panels=self.panels, reports=self.reports, words=count)

    def _page(self, name: str) -> None:
        page = next(page for page in self.pages if page.file == f"{name}.html")
        try:
            body = notebook.body(self.notebooks[name], lambda html: self._framed(html, name), self._link)
        except (FormulaError, PageError) as error:
            raise PageError(f"{name}.ipynb: {error}") from None
        self._write(page.file, "shell.html.j2", title=f"{page.title} · ReduceNet", body=body)
        self.say(f"{page.file} · {(self.folder / page.file).stat().st_size / 1e3:.0f} kB")

    def _framed(self, html: str, name: str) -> str:
        """The file of a panel: the shipped one where it is the same, else one of the page's own."""
        own = sum(file.startswith(f"panels/{name}") for file in self.files.values())
        return self.files.setdefault(html, f"panels/{name}-{own + 1}.html")

    def _link(self, href: str) -> str:
        """Where a link of a page in notebooks/ leads on the site. A file that only the project has comes along under files/."""
        path, at, anchor = href.partition("#")
        if not path or re.match(r"[a-z]+:", href):
            return href
        source = (project() / "notebooks" / path).resolve()
        if not source.is_relative_to(project()) or not source.exists():
            raise PageError(f"the link {href} leads nowhere")
        place = source.relative_to(project()).as_posix()
        if match := re.fullmatch(r"notebooks/(\d\w+)\.ipynb", place):
            return f"{match[1]}.html{at}{anchor}"
        if match := re.fullmatch(r"reports/(\w[\w-]*)(?:/report\.md|/index\.html|/?)", place):
            return f"reports/{match[1]}/index.html{at}{anchor}"
        if (match := re.fullmatch(r"(reports/\w[\w-]*/\w+)\.md", place)) and source.with_suffix(".html").exists():
            return f"{match[1]}.html{at}{anchor}"
        if (self.folder / place).is_file():
            return href.replace(path, place)
        if source.is_dir():
            raise PageError(f"the link {href} leads to a folder")
        (self.folder / "files" / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, self.folder / "files" / place)
        return f"files/{place}{at}{anchor}"

    def _copy(self, name: str) -> None:
        """A report and the pages of its runs, which lead back here; pages of a kind share one stylesheet, there are hundreds of each."""
        folder = self.folder / "reports" / name
        shutil.copytree(project() / "reports" / name, folder, ignore=shutil.ignore_patterns(*STALE))
        for file in folder.glob("*.html"):
            text = re.sub(r'href="\.\./\.\./notebooks/(\w+)\.ipynb"', r'href="../../\1.html"', file.read_text(encoding="utf-8"))
            file.write_text(self._undressed(text.replace("<main>", WAY_TO_REPORTS, 1), "report.css", "../"), encoding="utf-8")
        for file in folder.glob("runs/*.html"):
            file.write_text(self._undressed(file.read_text(encoding="utf-8"), "runs.css", "../../"), encoding="utf-8")

    def _undressed(self, text: str, sheet: str, up: str) -> str:
        """The page without its stylesheet, which the site has as reports/`sheet`, `up` from the page; one of other dress keeps its own. A
        column of numbers is a class there: every cell says it, and it looks alike."""
        css, shared = re.search(r"<style>(.*?)</style>", text, re.S), self.folder / "reports" / sheet
        dress = css and css[1].replace('[style*="right"]', ".n")
        if css and not shared.exists():
            shared.write_text(dress, encoding="utf-8")
        if not css or dress != shared.read_text(encoding="utf-8"):
            return text
        return text.replace(css[0], f'<link rel="stylesheet" href="{up}{sheet}">', 1).replace(' style="text-align:right"', ' class="n"')

    def _write(self, file: str, template: str, **given) -> None:
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined)
        shared = {"css": (HERE / "site.css").read_text(), "script": (HERE / "frames.js").read_text(), "pages": self.pages, "here": file}
        (self.folder / file).write_text(environment.get_template(template).render(**shared, **given), encoding="utf-8")


WAY_TO_REPORTS = '<main>\n<p><a href="../../index.html#reports">← ReduceNet, all reports</a></p>'
# In a panel that is opened by itself; in a frame it would be in the way.
WAY_BACK = (
    '<p id="way" style="margin:0;padding:.5rem 1rem 0" hidden><a style="color:var(--blue)" href="../index.html#panels">← ReduceNet</a></p>'
    '<script>document.getElementById("way").hidden = parent !== window;</script>\n'
)
