"""What README says can be done, can be done."""

import re
import tomllib

import pytest
from studies import ROOT

from reducenet.cli import _parser
from reducenet.study.vocabulary import VOCABULARY

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_commands_exist():
    commands = re.findall(r"reducenet (plan|run|status|report|data) (\w+)", "".join(blocks("sh")))
    assert {command for command, _ in commands} == {"plan", "run", "status", "report", "data"}
    for command, argument in commands:
        _parser().parse_args([command, argument])
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE):
        assert target in targets


def test_the_table_of_moves_is_complete():
    table = README.split("| move |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))) == set(VOCABULARY)


def test_the_study_file_in_readme_is_in_the_quick_study():
    quick = tomllib.loads((ROOT / "ablations" / "quick.toml").read_text())
    for block in blocks("toml"):
        for arm, content in tomllib.loads(block)["arms"].items():
            assert content.items() <= quick["arms"][arm].items()


@pytest.mark.slow
def test_the_python_in_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = {}
    for block in blocks("python"):
        exec(block, ran)
    assert len(ran["rows"]) == 3
    assert ran["report"].difference < 1e-9 * ran["report"].largest
    assert "would raise the MACs" in str(ran["report"])
