"""Build the notebooks from their text sources: `python notebooks/build.py`, or with `--check` only say what is stale (exit code 1).

`FOLDER/src/NAME.py` (percent format) becomes `FOLDER/NAME.ipynb`: no outputs, no execution counts, and ids that depend on the place of
the cell alone, so two builds are byte-identical and a diff of the source is the whole diff. Into a page go what it took when it was last
measured (`<!-- times -->`; `--time` runs every page and writes times.json), the claims that it explains (`<!-- claims -->`), the way to
the next (`<!-- next -->`), and the table of all pages (`<!-- contents -->`).
"""

import json
import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
FOLDED = {"opening", "panel", "closing"}  # cells whose code nobody needs to read


def built(source: Path) -> str:
    """The text of the notebook that `source` describes."""
    notebook = jupytext.read(source)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem.replace('_', '-')}-{number:02d}"
        tags = cell.metadata.get("tags", [])
        folded = {"jupyter": {"source_hidden": True}} if FOLDED & set(tags) else {}
        cell.metadata = nbformat.from_dict(({"tags": tags} if tags else {}) | folded)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = generated(cell.source, source)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def generated(text: str, source: Path) -> str:
    """A text cell with what is made for it in place of its marks."""
    for mark, made in (("times", times), ("claims", claims), ("next", way), ("contents", contents)):
        text = text.replace(f"<!-- {mark} -->", made(source)) if f"<!-- {mark} -->" in text else text
    return text


def pages() -> list[Path]:
    """The sources of the course, in its order."""
    return sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))


def title(source: Path) -> str:
    """The first heading of a page."""
    return re.search(r"^# # (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)[1]


def times(source: Path) -> str:
    """What the page took, and where that was measured."""
    measured = json.loads((ROOT / "notebooks" / "times.json").read_text()) if (ROOT / "notebooks" / "times.json").is_file() else {}
    took = measured.get("seconds", {}).get(source.stem)
    ran = f"runs in {took} s on {measured['machine']}" if took is not None else "not timed yet"
    words = len(re.findall(r"\w+", "\n".join(line for line in source.read_text(encoding="utf-8").splitlines() if line.startswith("# "))))
    return f"{max(1, round(words / 180))} minutes to read · {ran} · no kernel needed to play"


def contents(_: Path) -> str:
    """The pages as a table: what each asks, and its time line."""
    rows = [f"| [{title(page)}]({page.stem}.ipynb) | {lead(page)} | {times(page).split(' · no kernel')[0]} |" for page in pages()]
    return "\n".join(["| page | in one sentence | takes |", "|:--|:--|:--|", *rows])


def lead(source: Path) -> str:
    """The sentence under the title."""
    return re.search(r"^# > (.+)$", source.read_text(encoding="utf-8"), re.MULTILINE)[1]


def claims(source: Path) -> str:
    """The article's claims that the register says this page explains, each with a link to what was found of it."""
    register = tomllib.loads((ROOT / "ablations" / "claims" / "register.toml").read_text(encoding="utf-8"))
    explained = {name: claim for name, claim in register["claims"].items() if source.stem in claim.get("notebooks", [])}
    return "\n".join(f"- [{name}](../reports/claims/{name}.md): {claim['wording']}" for name, claim in explained.items())


def way(source: Path) -> str:
    """Before, contents, next."""
    all_pages = pages()
    if source not in all_pages:
        return ""
    here = all_pages.index(source)
    before, after = all_pages[here - 1] if here else None, all_pages[here + 1] if here + 1 < len(all_pages) else None
    links = [f"[← {title(before)}]({before.stem}.ipynb)"] if before else []
    links += [f"[contents]({all_pages[0].stem}.ipynb)"] if here else []
    links += [f"[{title(after)} →]({after.stem}.ipynb)"] if after else []
    return " · ".join(links)


def time_pages() -> None:
    """Runs every page as it is and writes what each took to times.json."""
    import papermill

    measured = {}
    for source in pages():
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            papermill.execute_notebook(ROOT / "notebooks" / f"{source.stem}.ipynb", Path(folder) / "out.ipynb", progress_bar=False)
        measured[source.stem] = round(time.monotonic() - start)
        print(f"{source.stem} {measured[source.stem]} s")
    record = {"machine": f"{os.cpu_count()} cores, no GPU", "seconds": measured}
    (ROOT / "notebooks" / "times.json").write_text(json.dumps(record, indent=1) + "\n")


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
    if "--time" in sys.argv[1:]:
        time_pages()
    sys.exit(main("--check" in sys.argv[1:]))
