"""Build the notebooks from their text sources: `python notebooks/build.py`, or with `--check` only say what is stale (exit code 1).

`FOLDER/src/NAME.py` (percent format) becomes `FOLDER/NAME.ipynb`: no outputs, no execution counts, and ids that depend on the place of
the cell alone, so two builds are byte-identical and a diff of the source is the whole diff.
"""

import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def built(source: Path) -> str:
    """The text of the notebook that `source` describes."""
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem.replace('_', '-')}-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {})
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def pairs() -> dict[Path, Path]:
    """Every source, and the notebook it becomes."""
    return {source: source.parents[1] / f"{source.stem}.ipynb" for source in sorted(ROOT.glob("*/src/*.py"))}


def main(check: bool) -> int:
    stale = [(s, n) for s, n in pairs().items() if not n.is_file() or n.read_text(encoding="utf-8") != built(s)]
    for source, notebook in stale:
        print(f"{notebook.relative_to(ROOT)} {'is not what its source says' if check else 'built'}")
        if not check:
            notebook.write_text(built(source), encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
