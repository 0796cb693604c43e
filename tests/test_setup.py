"""The files that set the project up agree with each other, and the code is clean."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from studies import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}


def requirements(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


WANTED = requirements(PROJECT["dependencies"])
PINNED = requirements(line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#")


def test_environment_yml_asks_for_the_same():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = next(d["pip"] for d in listed if isinstance(d, dict))  # what conda-forge does not have
    theirs = requirements([*(d for d in listed if isinstance(d, str)), *(line for line in by_pip if not line.startswith("-"))])
    assert str(theirs.pop("python")) == PROJECT["requires-python"]
    theirs.pop("pip")
    assert {CONDA.get(name, name): spec for name, spec in theirs.items()} == WANTED


def test_the_lock_pins_exactly_and_within_the_ranges():
    assert all(re.fullmatch(r"==[^*]+", str(spec)) for spec in PINNED.values())
    extras = PROJECT["optional-dependencies"]
    everything = WANTED | requirements(extras["export"]) | requirements(line for line in extras["test"] if "reducenet[" not in line)
    for name, spec in everything.items():
        assert name in PINNED, f"{name} is not in requirements.lock"
        assert str(PINNED[name]).removeprefix("==") in spec, name
    assert str(PINNED["torch"]) == "==2.14.1"
    assert str(PINNED["torchvision"]) == "==0.29.1"


@pytest.mark.parametrize("command", [["check", "."], ["format", "--check", "."]])
def test_ruff(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_file_is_two_ideas():
    for file in [*ROOT.glob("reducenet/**/*.py"), *ROOT.glob("notebooks/*.py")]:
        assert len(file.read_text().splitlines()) <= 300, file


def test_arrows_point_one_way():
    """The core imports no rivals, nor with them study, course or cli; the study reaches the core only by running notebooks."""
    core = [f for f in (ROOT / "reducenet").glob("*.py") if f.name not in ("cli.py", "__init__.py")]
    rivals = list((ROOT / "reducenet" / "rivals").glob("*.py"))
    for file in [*core, *rivals]:
        assert not re.search(r"reducenet\.(study|course|cli)|from reducenet import (study|course|cli)", file.read_text()), file
    for file in core:  # by name only, in home and chain
        assert not re.search(r"(from|import) reducenet\.rivals|from reducenet import .*rivals", file.read_text()), file
    for file in (ROOT / "reducenet" / "study").glob("*.py"):
        found = set(re.findall(r"(?:from|import) (reducenet(?:\.\w+)*)", file.read_text()))
        assert all(
            f.startswith("reducenet.study") or f in ("reducenet", "reducenet.home", "reducenet.names", "reducenet.style") for f in found
        ), (file, found)
        assert not re.search(r"^\s*(import|from) torch", file.read_text(), re.MULTILINE), file


def test_every_public_name_is_there_and_no_module_stands_before_it():
    """A module called as a name is would hide it, once imported."""
    code = (
        "import importlib, pathlib, types, reducenet; "
        "files = pathlib.Path(reducenet.__path__[0]).glob('*.py'); "
        "[importlib.import_module(f'reducenet.{f.stem}') for f in files if f.stem != '__init__']; "
        "print(*[name for name in reducenet.__all__ if isinstance(getattr(reducenet, name), types.ModuleType)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
