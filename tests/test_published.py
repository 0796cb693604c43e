"""What a report publishes: the runs behind its numbers, README's block; and what is committed follows from the rows, to the byte."""

import json
import re

import matplotlib
import nbformat
import pytest
from finished import TEXT, Project, files
from studies import ROOT

from reducenet.study.plan import plan
from reducenet.study.report import publish
from reducenet.study.report.page import render
from reducenet.study.report.prose import Report
from reducenet.study.report.tables import read_rows
from reducenet.words import whole

STUDIES = sorted(file.parent.name for file in (ROOT / "reports").glob("*/results.csv"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    made = Project(tmp_path_factory.mktemp("project"))
    made.report()
    return made


def test_every_run_behind_a_number_is_published_and_nothing_else(project):
    published = {name.removeprefix("runs/") for name in files(project.out) if name.startswith("runs/")}
    stems = {f"{arm}.s{seed}" for arm in ("teacher", "plain", "long", "drop", "lora", "lora@2") for seed in range(5)}
    assert published == {f"{stem}{suffix}" for stem in stems for suffix in (".ipynb", ".html")}


def test_links_lead_from_the_report_to_the_runs_and_back(project):
    for name, content in files(project.out).items():
        text = content.decode(errors="replace")  # answers.npz is no text
        links = re.findall(r'<a href="([^"]+)"', text) if name.endswith(".html") else re.findall(r"\]\(([^)]+)\)", text)
        assert bool(links) == name.endswith((".html", ".md", ".ipynb"))
        for link in links:
            assert ((project.out / name).parent / link).resolve().is_file(), f"{name}: {link}"
            assert not (name.endswith(".html") and link.endswith((".ipynb", ".md"))), f"{name}: {link}"


def test_a_published_run_says_what_it_is_and_how_to_play_it_again(project):
    notebook = nbformat.read(project.out / "runs" / "lora@2.s3.ipynb", 4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source == (
        "# lora, seed 3, piece 2\n\nOne run of the study [tiny](../report.md).\n\n- goes on from: [the teacher, seed 3](teacher.s3.ipynb)\n"
        "- is taught by: [the teacher, seed 3](teacher.s3.ipynb)\n\nPlay it again, with all that it needs: "
        "`reducenet run tiny --only lora@2/s3`"
    )
    (injected,) = [cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    given: dict = {}
    exec(injected.source, given)
    given.pop("__builtins__")
    assert set(given) == {"moves", "seed", "nth_fit", "data", "device", "threads"}
    run = project.plan.called("lora@2/s3")
    assert [whole(move) for move in given["moves"]] == run.parameters["moves"]
    assert {name: given[name] for name in ("seed", "nth_fit", "data", "device", "threads")}.items() <= run.parameters.items()
    head = nbformat.read(project.out / "runs" / "long.s0.ipynb", 4).cells[0].source
    assert "- may train as long as these cost: [the teacher, seed 0](teacher.s0.ipynb), [lora, seed 0, piece 2](lora@2.s0.ipynb)" in head
    assert "- starts afresh" in nbformat.read(project.out / "runs" / "plain.s0.ipynb", 4).cells[0].source


def test_replicates_that_are_chosen_between_are_paid_for_and_published(tmp_path):
    text = TEXT.replace("seeds = 5", "seeds = 1") + '[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 2 } }, "fold"]\n'
    project = Project(tmp_path, text, accuracy=lambda arm, seed: 0.5)
    found, row = project.report(), project.rows()["best", 0]
    assert (row.needs, row.ledger_macs) == ("plain.s0 plain.s1000", 2 * project.rows()["plain", 0].ledger_macs)
    page = found["runs/best.s0.html"].decode()
    assert re.search(r'takes the best of: <a href="plain\.s0\.html">.*<a href="plain\.s1000\.html">', page)
    assert "--only plain/s1000" in found["runs/plain.s1000.html"].decode()


def test_the_page_of_a_run_shows_what_the_notebook_showed(project):
    page = (project.out / "runs" / "lora.s3.html").read_text()
    assert "<h1>lora, seed 3</h1>" in page
    assert page.count("<h1>") == 1
    assert "<code>lora/s3</code>" in page
    assert "all &lt; that | came, &lt;script&gt;2&lt;/script&gt;" in page
    assert page.count('src="data:image/png;base64,') == 1
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 9000


def test_nothing_published_tells_of_a_machine(project):
    """No place, no process id, no time of day, no key; no script, and nothing that a page would fetch."""
    keys = {key for run in project.plan.runs.values() for key in (run.key, run.trained)}
    for name, content in files(project.out).items():
        text = content.decode(errors="replace")  # answers.npz is no text
        assert not [key for key in keys if key in text], name
        for trace in (str(project.folder), ".tmp-", "4711", "2026-", "papermill:", '"duration"', "0x0000", "a warning"):
            assert trace not in text, f"{name}: {trace}"
        if name.endswith(".html"):
            assert not re.search(r'<script|(?:src|href)="(?:https?:)?//|@import|url\((?!#)', text), name
        if name.endswith(".ipynb"):
            cells = json.loads(text)["cells"]
            assert [cell["id"] for cell in cells] == [f"cell-{number:02d}" for number in range(len(cells))]
            assert {tag for cell in cells for tag in cell["metadata"]} <= {"tags"}


# ---- what is committed


def test_the_studies_that_the_course_quotes_are_there():
    assert {"quick", "expansion"} <= set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_a_committed_report_is_what_its_rows_make(study, tmp_path):
    committed, cure = ROOT / "reports" / study, f"stale: reducenet publish {study} --force"
    planned = plan(ROOT / "ablations" / f"{study}.toml", "cpu")
    report = Report(planned.study, read_rows(committed))
    render(report, tmp_path)
    drawn = ["index.html", *(f"figures/{f.name}" for f in (committed / "figures").iterdir())]
    pinned = f"matplotlib=={matplotlib.__version__}" in (ROOT / "requirements.lock").read_text().splitlines()
    for name in ["report.md", *(drawn if pinned else [])]:  # another matplotlib may draw other bytes
        assert (tmp_path / name).read_text() == (committed / name).read_text(), cure
    tables = {name: (committed / name).read_bytes() for name in [*publish.TABLES, *publish.chosen(planned)]}
    assert all(tables[name] == told for name, told in publish.chosen(planned).items()), cure
    summary = json.loads((committed / "summary.json").read_text())
    assert summary == publish.summary(report, publish.freshness(planned, tables)), cure
    stems = {stem for row in report.rows.itertuples() if row.run for stem in (row.run, *row.needs.split())}
    assert {file.name for file in (committed / "runs").iterdir()} == {f"{stem}{suffix}" for stem in stems for suffix in (".ipynb", ".html")}
    assert not [file.name for file in committed.rglob("*") if file.is_file() and str(ROOT).encode() in file.read_bytes()]
