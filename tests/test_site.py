"""How the site is made: formulas, a page's cells, what runs again, and what ends a build."""

import re

import nbformat
import pytest

from reducenet.course.site import __main__ as command
from reducenet.course.site.build import build
from reducenet.course.site.contents import page
from reducenet.course.site.executed import PageError
from reducenet.course.site.formulas import FormulaError, with_mathml
from reducenet.course.site.notebook import body


def test_formulas_are_said_in_mathml_or_refused():
    said = with_mathml(r"<p>$$\begin{aligned} h &amp;= \mathrm{relu}(x) \\ y &amp;&lt; h \end{aligned}$$ costs 5$ or 6$, $a_1$</p>")
    assert said.count("<math") == 2
    assert "<mtext>relu</mtext>" in said
    assert said.count("<mtr>") == 2
    assert "costs 5$ or 6$, " in said
    code = '<code>$x$</code><pre>$y$ <b>$z$</b></pre><script>"$u$"</script><a title="$v$">w</a>'
    assert with_mathml(code) == code
    for wrong in (r"$\nonsense{x}$", r"$a & b$", r"$\frac$"):
        with pytest.raises(FormulaError, match="no MathML for"):
            with_mathml(f"<p>{wrong}</p>")


def notebook(*cells):
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    new = {"m": nbformat.v4.new_markdown_cell, "c": nbformat.v4.new_code_cell}
    made.cells = [new[kind](text, metadata={"tags": tags} if tags else {}) for kind, text, *tags in cells]
    return made


def test_a_page_has_its_panel_first_and_only_what_must_be_read_open():
    made = notebook(("m", "# 1 · One\n\n> Why?\n\nSee [two](02_two.ipynb)."), ("c", "seed: int = 0", "parameters"), ("c", "a", "opening"),
                    ("c", "b", "panel"), ("c", "c"),
                    ("c", "def f(x):\n    return ...", "exercise"), ("c", "check(f)", "check"))  # fmt: skip
    frame = '<div><iframe title="t" srcdoc="&lt;p&gt;live&lt;/p&gt;"></iframe><img data-without-scripts alt="still" src="data:,"></div>'
    made.cells[3].outputs = [nbformat.v4.new_output("execute_result", {"text/html": frame, "text/plain": "still"}, execution_count=1)]
    filed = []
    html = body(made, lambda panel: filed.append(panel) or "panels/one.html", lambda href: href.replace(".ipynb", ".html"))
    assert filed == ["<p>live</p>"]
    assert 'class="panel" src="panels/one.html"' in html
    assert re.search(r"<noscript><style>iframe[^<]*</style><img [^>]*data-without-scripts", html)
    assert '<a href="02_two.html">two</a>' in html
    tags = re.findall(r'class="cell cell-([\w-]+)"', html)
    assert tags == ["panel", "parameters", "opening", "plain", "exercise", "check"]
    assert [bool(found) for found in re.findall(r'<details class="code"( open="")?>', html)] == [False] * 4 + [True] * 2
    found = page("01_one", made)
    assert (found.number, found.title, found.question) == ("1", "1 · One", "Why?")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """`course(*cells)`: a project whose only page has these cells; the options of a build of it."""

    def of(*cells):
        (tmp_path / "notebooks").mkdir()
        nbformat.write(notebook(*cells), tmp_path / "notebooks" / "01_one.ipynb")
        for module in ("build", "contents", "executed"):
            monkeypatch.setattr(f"reducenet.course.site.{module}.project", lambda: tmp_path)
        monkeypatch.setattr("reducenet.course.site.executed.PACKAGE", tmp_path / "notebooks")
        monkeypatch.setattr("reducenet.course.site.contents.PANELS", tmp_path)
        return tmp_path / "out"

    return of


@pytest.mark.engine
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            [("m", "# One"), ("c", "raise KeyError('so\\nthat')")],
            "site: 01_one.ipynb does not run: cell 1 stops with KeyError: 'so\\nthat'",
        ),
        ([("m", "# One\n\n[two](02_two.ipynb)")], "site: 01_one.ipynb: the link 02_two.ipynb leads nowhere"),
        ([("m", "# One\n\n$\\nonsense$")], r"site: 01_one.ipynb: no MathML for '\\nonsense' in '\\nonsense'"),
    ],
)
def test_what_cannot_be_shown_ends_the_build_in_one_line(cells, said, course, capsys, monkeypatch):
    out = course(*cells)
    monkeypatch.setattr("sys.argv", ["site", str(out)])
    assert command.main() == 1
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("site: ")] == [said]
    assert not out.exists()


@pytest.mark.engine
def test_a_link_to_a_page_of_a_report_leads_to_what_a_browser_shows(course):
    out = course(("m", "# One\n\n[a](../reports/claims/A.md) [b](../reports/claims/B.md#more) [c](../reports/claims/report.md)"))
    claims = out.parent / "reports" / "claims"
    claims.mkdir(parents=True)
    for name in ("A.md", "A.html", "B.md", "report.md", "index.html"):
        (claims / name).write_text(f"<title>{name}</title><main>{name}</main>")
    build(out)
    links = re.findall(r'href="((?:reports|files)/[^"]*)"', (out / "01_one.html").read_text())
    assert links == ["reports/claims/A.html", "files/reports/claims/B.md#more", "reports/claims/index.html"]
    assert all((out / link.split("#")[0]).is_file() for link in links)


@pytest.mark.engine
def test_reports_share_a_stylesheet_and_keep_one_of_their_own(course):
    out = course(("m", "# One"))
    dress = {"a": ("p{}", "q{}"), "b": ("p{}", "q{}"), "c": ("p{ color: red }", "q{ color: red }"), "d": (None, None)}
    for name, (report, run) in dress.items():
        (out.parent / "reports" / name / "runs").mkdir(parents=True)
        for file, css in (("index", report), ("runs/x", run)):
            head = f"<style>{css}</style>" if css else ""
            (out.parent / "reports" / name / f"{file}.html").write_text(f"<title>{name}</title>{head}<main>{name}</main>")
    build(out)
    for name, (report, run) in dress.items():
        for file, css, sheet in (("index", report, "report.css"), ("runs/x", run, "runs.css")):
            there = out / "reports" / name / f"{file}.html"
            links = re.findall(r'<link rel="stylesheet" href="([^"]*)">', there.read_text())
            worn = [(there.parent / link).resolve().read_text() for link in links] + re.findall(r"<style>(.*?)</style>", there.read_text())
            assert worn == ([css] if css else [])
            assert [(there.parent / link).resolve() for link in links] == ([out / "reports" / sheet] if name in "ab" else [])


@pytest.mark.engine
def test_a_page_runs_once_until_it_is_another(course, capsys):
    out = course(("m", "# One\n\n[results](../rows.csv)"), ("c", "profile: str = 'quick'", "parameters"), ("c", "print(profile)"))
    (out.parent / "rows.csv").write_text("a\n1\n")
    build(out, smoke=True)
    assert "ran in" in capsys.readouterr().out
    assert ">smoke" in (out / "01_one.html").read_text()
    assert (out / "files" / "rows.csv").read_text() == "a\n1\n"
    build(out, smoke=True)
    assert "1 of 1 executed before" in capsys.readouterr().out
    build(out)
    assert "ran in" in capsys.readouterr().out
    assert ">quick" in (out / "01_one.html").read_text()
    for _ in range(3):
        (out.parent / "notebooks" / "new.py").write_text("x" * len(list((out.parent / "build" / "pages").glob("01_one-*"))))
        build(out)
    assert len(list((out.parent / "build" / "pages").glob("01_one-*"))) == 4
    with pytest.raises(PageError, match="words.html is a file; name a folder"):
        build(out / "words.html")
    (out / "words.html").unlink()
    with pytest.raises(PageError, match="holds something that is no site"):
        build(out)
