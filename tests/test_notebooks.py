"""Notebooks are what their sources say, and run: by papermill, as a user would."""

import json
import re
import subprocess
import sys

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from studies import ROOT

sys.path.insert(0, str(ROOT / "notebooks"))
import build

PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMOKE = {"profile": "smoke", "dataset": "synthetic"}


@pytest.mark.parametrize(("source", "notebook"), build.pairs().items(), ids=lambda path: path.name)
def test_notebooks_are_what_their_sources_say(source, notebook):
    text = notebook.read_text()
    assert text == build.built(source), f"run: python notebooks/build.py ({notebook.name} is stale)"
    cells = json.loads(text)["cells"]
    ids = [cell["id"] for cell in cells]
    assert len(set(ids)) == len(ids)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1


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


@pytest.mark.parametrize("notebook", PAGES, ids=lambda path: path.stem)
def test_pages_have_their_parts_in_order_and_stay_short(notebook):
    cells = nbformat.read(notebook, 4).cells
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    order = ["parameters", "predict", "widget", "static", "exercise", "check"]
    assert [tag for tag in tags if tag in order] == order
    assert all(len(cell.source.splitlines()) <= 20 for cell in cells if cell.cell_type == "code")
    for cell in cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$[^$]*\$|`[^`]*`|```.*?```|arXiv:\S+|\d+×\d+|<[^>]+>", "", cell.source, flags=re.DOTALL)
            assert not re.search(r"\d+\.\d+ ?%|\d ?%", prose), f"a typed result in: {cell.source[:80]}"


@pytest.mark.engine
@pytest.mark.parametrize("notebook", PAGES, ids=lambda path: path.stem)
def test_pages_run_with_their_parameters(notebook, tmp_path):
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(notebook, out, {**SMOKE, "expansion": 2, "scaler": 0.5}, progress_bar=False, cwd=tmp_path)
    cells = nbformat.read(out, 4).cells
    stderr = [
        o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream" and o.name == "stderr" and "it/s" not in o.text
    ]
    assert not [text for text in stderr if "Warning" in text]
    by_tag = {tag: cell for cell in cells for tag in cell.metadata.get("tags", [])}
    assert "☐ not tried yet" in by_tag["check"].outputs[0].data["text/plain"]
    assert any("<svg" in output.data.get("text/html", "") for output in by_tag["static"].outputs)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"expnsion": 2}, r"unknown parameter 'expnsion'; known: seed, expansion, scaler, width, epochs, dataset, profile"),
        ({"expansion": 3}, "expansion = 3 must be one of 1, 2, 4, 8"),
        ({"scaler": 2}, "scaler = 2 must lie between 0.0 and 1.0"),
        ({"seed": "zero"}, "seed = 'zero' must be a int"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(parameter, message, tmp_path):
    with pytest.raises(PapermillExecutionError) as error:
        papermill.execute_notebook(PAGES[0], tmp_path / "out.ipynb", parameter, progress_bar=False)
    assert error.value.ename == "ParameterError"
    assert re.search(message, error.value.evalue)
    assert "\n" not in error.value.evalue


@pytest.mark.slow
def test_the_command_of_the_page_works_as_printed(tmp_path):
    """`papermill notebooks/03_scaler_branch.ipynb out.ipynb -p expansion 2 -p scaler 0.5`, in its default profile."""
    command = ["-m", "papermill", str(PAGES[0]), str(tmp_path / "out.ipynb"), "-p", "expansion", "2", "-p", "scaler", "0.5"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
