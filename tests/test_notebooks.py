"""Notebooks are what their sources say, and run: by papermill, as a user would. tests/test_site_browser.py runs them with other values."""

import json
import re
import subprocess
import sys
import tomllib

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from studies import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
import build

PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCALER = ROOT / "notebooks" / "03_scaler_branch.ipynb"
TAGS = ("parameters", "opening", "panel", "predict", "derive", "exercise", "check", "own", "closing")
pages = pytest.mark.parametrize("notebook", PAGES, ids=lambda path: path.stem)


@pytest.mark.parametrize(("source", "notebook"), build.pairs().items(), ids=lambda path: path.name)
def test_notebooks_are_what_their_sources_say(source, notebook):
    text = notebook.read_text()
    assert text == build.built(source), f"run: python notebooks/build.py ({notebook.name} is stale)"
    cells = json.loads(text)["cells"]
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1


def test_every_claim_stands_on_the_page_that_explains_it():
    register = tomllib.loads((ROOT / "ablations" / "claims" / "register.toml").read_text())["claims"]
    texts = {source.stem: notebook.read_text() for source, notebook in build.pairs().items()}
    told = {stem: re.findall(r"\[(H\w+)\]\(\.\./reports/claims/(H\w+)\.md\): (.*?)\\n", text) for stem, text in texts.items()}
    for name, claim in register.items():
        assert claim["notebooks"]
        for stem, lines in told.items():
            assert ((name, name, claim["wording"]) in lines) == (stem in claim["notebooks"]), (name, stem)


def test_a_stale_notebook_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "page.py").write_text("# %% [markdown]\n# # Hello\n\n# %%\nx = 1\n")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.main(check=True) == 1
    assert build.main(check=False) == 0
    assert build.main(check=True) == 0
    notebook = tmp_path / "notebooks" / "page.ipynb"
    first = notebook.read_bytes()
    (tmp_path / "notebooks" / "src" / "page.py").write_text("# %% [markdown]\n# # Hello\n\n# %%\nx = 2\n")
    assert build.main(check=True) == 1
    notebook.unlink()
    (tmp_path / "notebooks" / "src" / "page.py").write_text("# %% [markdown]\n# # Hello\n\n# %%\nx = 1\n")
    build.main(check=False)
    assert notebook.read_bytes() == first  # ids do not depend on the day


@pages
def test_pages_have_their_parts_in_order_and_stay_short(notebook):
    cells = nbformat.read(notebook, 4).cells
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags[:4] == ["parameters", "opening", "panel", "predict"]
    assert tags[-1] == "closing"
    assert "derive" in tags
    assert set(tags) <= set(TAGS)
    assert tags.count("opening") == tags.count("panel") == 1
    asked = [tag for tag in tags if tag in ("exercise", "check")]
    assert asked == ["exercise", "check"] * (len(asked) // 2)
    assert bool(asked) != notebook.stem.startswith("00")
    assert len(cells) <= 45
    assert [cell.source for cell in cells if cell.cell_type == "code" and len(cell.source.splitlines()) > 15] == []
    assert [cell.id for cell in cells if cell.metadata.get("jupyter")] == [
        cell.id for cell in cells if {"opening", "panel", "closing"} & set(cell.metadata.get("tags", []))
    ]


@pages
def test_pages_say_what_they_are_and_lead_on(notebook):
    cells = nbformat.read(notebook, 4).cells
    title, text = cells[0].source, "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.match(r"# \d · .+\n\n> .+\n>\n> 中文：.+\n\n\d+ minutes to read · runs in \d+ s on .+", title)
    assert "<!--" not in text
    assert (notebook == PAGES[0]) or "[contents](00_start_here.ipynb)" in text
    for link in re.findall(r"\]\(([\w.]+\.ipynb)\)", text):
        assert (notebook.parent / link).is_file()
    assert text.count("<details>") == text.count("</details>")


@pages
def test_no_result_is_typed(notebook):
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$[^$]*\$|`[^`]*`|```.*?```|arXiv:\S+|\d+×\d+|<[^>]+>|9[05] % interval", "", cell.source, flags=re.DOTALL)
            assert not re.search(r"\d+\.\d+ ?%|\d ?%", prose), f"a typed result in: {cell.source[:80]}"


@pytest.mark.engine
@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"expnsion": 2}, r"unknown parameter 'expnsion'; known: seed, expansion, scaler, width, epochs, dataset, profile, retrain"),
        pytest.param({"expansion": 3}, "parameter expansion = 3 must be one of 1, 2, 4, 8", marks=pytest.mark.slow),
        pytest.param({"scaler": 2}, "parameter scaler = 2 must lie between 0.0 and 1.0", marks=pytest.mark.slow),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(parameter, message, tmp_path):
    with pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(SCALER, tmp_path / "out.ipynb", parameter, progress_bar=False)
    assert error.value.ename == "ParameterError"
    assert error.value.evalue == message


@pytest.mark.slow
@pages
def test_pages_run_as_they_are(notebook, tmp_path):
    """In their default profile, as printed on page 00: `papermill notebooks/PAGE.ipynb out.ipynb`."""
    command = ["-m", "papermill", str(notebook), str(tmp_path / "out.ipynb"), *(["-p", "expansion", "2"] if notebook == SCALER else [])]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
