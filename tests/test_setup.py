"""The files that set the project up agree with each other, the code is clean, and arrows between modules point one way."""

import ast
import functools
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from studies import ROOT

from reducenet.words.lock import file_of, imported

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
    for file in [*ROOT.glob("reducenet/**/*.py"), *ROOT.glob("notebooks/*.py"), *ROOT.glob("benchmarks/**/*.py")]:
        assert len(file.read_text().splitlines()) <= 300, file


# ---- arrows

# What each room may know of besides itself, from the ground up.
ROOMS = {"algebra": (), "words": (), "store": (), "style": (), "nets": ("algebra", "words")}
ROOMS |= {"data": (*ROOMS["nets"], "nets", "store"), "moves": (*ROOMS["nets"], "nets")}
ROOMS |= {"learn": (*ROOMS["data"], "data", "moves")}
ROOMS |= {"deploy": (*ROOMS["learn"], "learn", "moves")}
ROOMS |= {"methods": (*ROOMS["deploy"], "deploy")}
ROOMS |= {"play": (*ROOMS["methods"], "methods", "style")}
ROOMS |= {"study": ("words", "store", "style", "data")}  # of data its sources alone
ROOMS |= {"course": (*ROOMS["play"], "play", "study"), "options": (), "cli": ("options", "words", "store", "data", "study")}
ROOMS |= {"": ("words",)}  # reducenet/__init__.py finds the others by their names

SOURCES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file.read_text()
    for file in sorted((ROOT / "reducenet").rglob("*.py"))
}


class Modules(ast.NodeTransformer):
    """`from package import module` imports the module, and nothing that the package's own file says; what is compared is no import."""

    def __init__(self, module):
        self.module = module

    def visit_Compare(self, node):
        return ast.Constant(None)

    def visit_ImportFrom(self, node):
        found = []
        for alias in node.names:
            one = ast.ImportFrom(node.module, [alias], node.level)
            modules = imported(ast.unparse(ast.fix_missing_locations(one)), self.module)
            deepest = [name for name in modules if name.endswith(f".{alias.name}")]
            found.append(ast.Import([ast.alias(deepest[0])]) if deepest else one)
        return found


@functools.cache
def imports(module):
    """The modules that a module imports, in whatever form: whole, by name, relative, through the face, by a string, in a function."""
    tree = ast.fix_missing_locations(Modules(module).visit(ast.parse(SOURCES[module])))
    return (imported(ast.unparse(tree), module) & set(SOURCES)) - {module}


@functools.cache
def at_import(module):
    """The packages from elsewhere that are loaded when the module is, by itself and by what it imports then."""
    found, seen, new = set(), set(), {module}
    while new:
        seen |= new
        texts = {name: statements(SOURCES[name]) for name in new}
        for node in ast.walk(ast.parse("\n".join(texts.values()))):
            found |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            found |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
        parents = {name.rpartition(".")[0] for name in seen}
        new = (({other for name, text in texts.items() for other in imported(text, name)} | parents) & set(SOURCES)) - seen
    return {name.split(".")[0] for name in found}


def statements(source, everywhere=False):
    """The imports of a source that run when it is loaded, or, `everywhere`, those in functions too."""
    found, left = [], list(ast.parse(source).body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "reducenet":  # a name of the face, which is imported then
            found.append(f"from reducenet import {node.attr}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            found.append(ast.unparse(node))
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
    return "\n".join(found)


def room(module):
    return module.removeprefix("reducenet").removeprefix(".").split(".")[0]


def test_every_module_stands_in_a_room():
    assert {room(module) for module in SOURCES} == set(ROOMS)
    assert all(file_of(module).is_file() for module in SOURCES)


def test_no_circle_between_modules():
    def visit(module, path):
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        for other in imports(module) - done:
            visit(other, (*path, module))
        done.add(module)

    done = set()
    for module in SOURCES:
        visit(module, ())


def upwards(module):
    """The imports of a module that its room may not know of. What it only has the names of, in strings, it starts or hashes."""
    only_named = {"study": {"play"}, "words": {"learn", "play", "data", "store"}, "course": {"cli"}}.get(room(module), set())
    named = imports(module) - imported(statements(SOURCES[module], everywhere=True), module)
    wrong = {other for other in imports(module) if room(other) not in {*ROOMS[room(module)], room(module)}}
    wrong -= {other for other in named if room(other) in only_named}
    if room(module) == "study":
        wrong |= {other for other in imports(module) if room(other) == "data" and other != "reducenet.data.sources"}
    return wrong


def test_no_arrow_points_upwards():
    """Methods, moves and losses reach each other as words, by name; study reaches play only by starting it."""
    assert {f"{module} -> {other}" for module in SOURCES for other in upwards(module)} == set()


TORCHLESS = [m for m in SOURCES if room(m) in ("words", "study", "store", "options", "cli", "") or m == "reducenet.data.sources"]


@pytest.mark.parametrize("module", TORCHLESS)
def test_planning_needs_no_torch(module):
    """Neither here nor in what is imported with it. Reports draw in a notebook, and what a worker runs loads papermill when it runs."""
    heavy = {"torch", "torchvision", "distributed", "dask", "papermill"}
    assert not at_import(module) & heavy, at_import(module) & heavy


def test_torch_is_nowhere_in_words_and_study():
    for module, source in SOURCES.items():
        if room(module) in ("words", "study", "store", "cli"):
            assert not re.search(r"(import|from|import_module\(') ?torch", statements(source, everywhere=True)), module


@pytest.mark.parametrize(
    "text",
    [
        "import reducenet.learn.measure",
        "from reducenet.learn import measure",
        "from reducenet.learn.measure import macs",
        "from reducenet import macs",
        "import reducenet\nreducenet.macs",
        "from ..learn import measure",
        "from ..learn.measure import macs",
        "import importlib\nimportlib.import_module('reducenet.learn.measure')",
        "def f():\n    from reducenet.learn.measure import macs",
    ],
)
def test_an_arrow_is_seen_in_every_form(text, monkeypatch):
    """Else the tests above would pass over it."""
    monkeypatch.setitem(SOURCES, "reducenet.study.plan", SOURCES["reducenet.study.plan"] + "\n" + text + "\n")
    imports.cache_clear()
    at_import.cache_clear()
    assert "reducenet.learn.measure" in upwards("reducenet.study.plan")
    assert ("torch" in at_import("reducenet.study.preview")) == (not text.startswith("def"))  # which imports plan
    monkeypatch.undo()
    imports.cache_clear()
    at_import.cache_clear()


def test_a_circle_is_seen(monkeypatch):
    monkeypatch.setitem(SOURCES, "reducenet.words.word", SOURCES["reducenet.words.word"] + "\nfrom reducenet.words import sentence\n")
    imports.cache_clear()
    with pytest.raises(AssertionError, match=r"reducenet\.words\.word -> reducenet\.words\.sentence"):
        test_no_circle_between_modules()
    monkeypatch.undo()
    imports.cache_clear()


@pytest.mark.engine
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


def test_an_unknown_public_name_is_an_attribute_error():
    import reducenet

    with pytest.raises(AttributeError, match="module 'reducenet' has no attribute 'fould'"):
        reducenet.fould  # noqa: B018
    assert {"fuse", "build", "load_data", "MoveError"} <= set(dir(reducenet))
