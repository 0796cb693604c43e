"""What README and its neighbours say can be done, can be done."""

import re
import shlex
import tomllib

import pytest
from studies import ROOT

from reducenet.cli import main, parser
from reducenet.words import KINDS, words
from reducenet.words.grammar import table

PAGES = {file.name: file.read_text(encoding="utf-8") for file in sorted(ROOT.glob("*.md"))}
README = PAGES["README.md"]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[page]) + "".join(re.findall(r"\[`[^`]*`\]\([^)]+\)", PAGES[page])))
    for link in links:
        file, _, anchor = link.partition("#")
        if not re.match(r"https?:", link):
            assert not file or (ROOT / file).exists(), link
            assert not anchor or anchor in anchors(PAGES[file] if file else PAGES[page]), link


@pytest.mark.parametrize("page", PAGES)
def test_commands_can_be_parsed(page):
    """Those in blocks as they stand, and of those in the text the command at least."""
    lines = [line.split("#")[0] for line in "".join(blocks("sh", PAGES[page])).splitlines()]
    calls = [shlex.split(call) for line in lines for call in re.split(r"&&|;", line)]
    for call in calls:
        if call and call[0].split("/")[-1] == "reducenet":
            parser().parse_args(call[1:])
    for command in re.findall(r"`(?:\.venv/bin/)?reducenet ([a-z]+)", PAGES[page]):
        assert command in next(action.choices for action in parser()._actions if isinstance(action.choices, dict)), command
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", PAGES[page], re.MULTILINE):
        assert target in targets, target


def test_readme_shows_what_a_study_needs():
    said = {call.split()[1] for call in re.findall(r"^reducenet .*$", "".join(blocks("sh")), re.MULTILINE)}
    assert {"plan", "run", "status", "report"} <= said


def test_the_table_of_words_is_the_words():
    assert table() in README
    rows = dict(re.findall(r"^\| (\w+) \|.*\|([^|]*)\|$", table(), re.MULTILINE))
    assert {kind: re.findall(r"`([^`]+)`", names) for kind, names in rows.items() if kind in KINDS} == {
        kind: list(words(kind)) for kind in KINDS
    }


def test_the_study_file_in_readme_is_in_the_quick_study():
    quick = tomllib.loads((ROOT / "ablations" / "quick.toml").read_text())
    assert blocks("toml")
    for block in blocks("toml"):
        for arm, content in tomllib.loads(block)["arms"].items():
            assert content.items() <= quick["arms"][arm].items()


@pytest.mark.long
def test_the_python_in_readme_runs(tmp_path, monkeypatch):
    """With fewer images and one epoch in place of three."""
    monkeypatch.chdir(tmp_path)
    ran = {}
    for block in blocks("python"):
        short = re.sub(r"epochs=\d+", "epochs=1", block).replace('load_data("fashion-mini")', 'load_data("fashion-mini").subset(500)')
        exec(short, ran)
    assert len(ran["rows"]) == 1
    assert (tmp_path / "student.safetensors").is_file()
    assert not hasattr(ran["student"].stage1[0], "branch1")
    assert ran["report"].difference < 1e-9 * ran["report"].largest
    assert "would raise the MACs" in str(ran["report"])


def test_the_words_that_contributing_shows_are_words(tmp_path, capsys, anew):
    """Each block of Python there is a file that `--words` takes."""
    found = blocks("python", PAGES.get("CONTRIBUTING.md", ""))
    for number, block in enumerate(found):
        file = tmp_path / f"shown_{number}.py"
        file.write_text(block)
        for name in re.findall(r"^def (\w+)\(net", block, re.MULTILINE):
            assert main(["words", name, "--words", str(file)]) == 0
            assert f"{name} (move" in capsys.readouterr().out
        exec(block, {"__name__": f"shown_{number}"})


def test_the_words_that_documents_name_exist():
    """`name = ...` in code, where name looks like a word of a sentence with parameters, as `{ freeze = [...] }`."""
    for page, text in PAGES.items():
        if page != "CHANGELOG.md":
            for name in re.findall(r"\{ (\w+) = ", "".join(blocks("toml", text))):
                assert name in words(), (page, name)
