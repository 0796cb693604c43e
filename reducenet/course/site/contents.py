"""What the site is about, read from what is there: pages, panels, reports with their answers and runs, the words of the grammar."""

import json
import re
from dataclasses import asdict, dataclass, field
from html import unescape
from importlib import import_module
from pathlib import Path

from nbformat import NotebookNode

from reducenet.course.evidence import Evidence, project
from reducenet.course.live.shown import PANELS
from reducenet.course.site.executed import PageError, made_of
from reducenet.study.report.answer import answer
from reducenet.study.report.text import MARKDOWN, html
from reducenet.words import KINDS, REQUIRED, words
from reducenet.words.grammar import WHAT, example_of, kind_of, toml


@dataclass
class Page:
    """A page of the course: where it lies, and what its first cell says of it."""

    file: str
    number: str
    title: str
    question: str = ""  # HTML
    times: str = ""


def page(name: str, notebook: NotebookNode) -> Page:
    """From the first cell: the title, the sentence under it, and how long it takes."""
    first = next(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title = re.search(r"^# (.+)$", first, re.MULTILINE)
    quote = re.search(r"^> (?!中文)((?:.+\n?)(?:> (?!中文).+\n?)*)", first, re.MULTILINE)
    times = re.search(r"^.*minutes? to read.*$", first, re.MULTILINE)
    said = MARKDOWN.renderInline(re.sub(r"^> ?", "", quote[1], flags=re.MULTILINE).strip()) if quote else ""
    return Page(f"{name}.html", re.match(r"0*(\d+)", name)[1], title[1].strip(), said, times[0].strip() if times else "")


@dataclass
class Panel:
    """A live panel with the shipped networks, as one file."""

    name: str
    title: str
    about: str
    html: str


def panels(cache: Path) -> list[Panel]:
    """Every panel, by name, from `cache` where it has them. Raises `PageError` for one that cannot be made."""
    kept = cache / f"panels-{made_of().hex()[:16]}.json"
    if not kept.is_file():
        made = [_panel(name) for name in sorted(file.parent.name for file in PANELS.glob("*/panel.py"))]
        cache.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps([asdict(panel) for panel in made]), encoding="utf-8")
    return [Panel(**panel) for panel in json.loads(kept.read_text(encoding="utf-8"))]


def _panel(name: str) -> Panel:
    try:
        live = import_module(f"reducenet.course.panels.{name}.panel").shipped()
    except Exception as error:  # a network or a record that is not there, say
        raise PageError(f"panel {name}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    return Panel(name, live.title, " ".join((import_module(f"reducenet.course.panels.{name}").__doc__ or "").split()), live.html)


@dataclass
class Report:
    """A study that was run: its question, its answer as HTML, and the pages of its runs by arm."""

    name: str
    title: str
    answer: str
    runs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def reports() -> list[Report]:
    """Every report that is there: the claims first, then the studies in the order of their titles."""
    found = (_report(file.parent) for file in project().glob("reports/*/index.html"))
    return sorted(found, key=lambda report: (report.name != "claims", report.title))


def _report(folder: Path) -> Report:
    found = Report(folder.name, *_said(folder))
    for file in sorted(folder.glob("runs/*.html")):
        arm, _, seed = file.stem.rpartition(".s")
        found.runs.setdefault(arm, []).append((file.name, f"seed {seed}"))
    return found


def _said(folder: Path) -> tuple[str, str]:
    """The title and the answer; of a report without its study what its page says."""
    if not (project() / "ablations" / f"{folder.name}.toml").is_file():
        page = (folder / "index.html").read_text(encoding="utf-8")
        answer_ = re.search(r"<strong>(.*?)</strong>", page, re.DOTALL)
        return unescape(re.search(r"<title>(.*?)</title>", page)[1]), answer_[1] if answer_ else ""
    evidence = Evidence(folder.name)
    return evidence.study.title, MARKDOWN.renderInline(answer(evidence.report)) if evidence.report else ""


def grammar() -> list[dict]:
    """Every word by its kind, as `reducenet words NAME` has it."""
    return [{"name": kind, "what": WHAT[kind], "words": [_word(word) for word in words(kind).values()]} for kind in KINDS]


def _word(word) -> dict:
    parameters = [(p.name, kind_of(p), None if p.default is REQUIRED else toml(p.default)) for p in word.parameters]
    return {"name": word.name, "exact": word.exact, "says": _told(word.says), "parameters": parameters,
            "joins": word.choice.of_kind if word.choice else "", "example": example_of(word)}  # fmt: skip


def _told(says: str) -> str:
    """A docstring as HTML: the examples in it are code."""
    marked = re.sub(r"(?:^>>> .*\n?(?:^(?!$).*\n?)*)", lambda m: f"```\n{m[0].rstrip()}\n```\n", says, flags=re.MULTILINE)
    return html(marked)
