"""Versions and the trip-wire: what changes a number is noticed, in whatever form it is reached, and what changes none is not."""

import ast
import glob
import json
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from studies import ROOT, make

from reducenet.cli import main
from reducenet.words import KINDS, add, declared, find, lock, whole, words
from reducenet.words.lock import (
    Tripped,
    check,
    closure,
    imported,
    known,
    name_of,
    shared_modules,
    shared_version,
    source,
    version,
    words_of,
)
from reducenet.words.meaning import meaning


def every():
    return [word for kind in KINDS for word in words(kind).values()]


# ---- what of a source counts

CODE = '''
"""A module."""

import math


class Layer:
    """A layer."""

    factor = 2.0

    def double(self, x, *, scale=1.0):
        """Twice x."""
        if x < 0:
            raise ValueError(f"x must be positive, not {x}")
        text = f"{x} times"
        return [self.factor * x * scale, math.pi, text, "one"]
'''
SAME = {
    "a comment": ("factor = 2.0", "factor = 2.0  # why 2"),
    "a line of comments": ("    def double", "    # how\n    # and why\n    def double"),
    "blank lines": ("import math\n", "import math\n\n\n\n"),
    "the docstring of the module": ('"""A module."""', '"""Another module.\n\nAnd more."""'),
    "the docstring of a class": ('"""A layer."""', '"""Another layer."""'),
    "the docstring of a function": ('"""Twice x."""', '"""x, doubled."""'),
    "no docstring": ('        """Twice x."""\n', ""),
    "the wording of an error": ('"x must be positive, not {x}"', '"not {x}: x must be positive"'),
    "an error over several lines": ('ValueError(f"x must', 'ValueError(\n                f"x must'),
    "other quotes": ('"one"', "'one'"),
    "lines broken elsewhere": ("[self.factor * x * scale, math.pi,", "[\n            self.factor * x * scale,\n            math.pi,"),
    "a comma at the end": ('"one"]', '"one",\n        ]'),
    "wider indents": ("            raise ValueError", "                raise ValueError"),
}  # fmt: skip
OTHER = {
    "a number": ("factor = 2.0", "factor = 2.5"),
    "a default": ("scale=1.0", "scale=0.5"),
    "a comparison": ("x < 0", "x <= 0"),
    "an operator": ("* scale", "/ scale"),
    "a text": ('"one"', '"two"'),
    "a text in braces": ("{x} times", "{x} Times"),
    "another kind of error": ("raise ValueError", "raise KeyError"),
    "a statement more": ("        if x < 0:", "        x += 1\n        if x < 0:"),
    "a name": ("math.pi", "math.e"),
    "a decorator": ("    def double", "    @staticmethod\n    def double"),
    "a condition": ("if x < 0", "if not x < 0"),
    "what stands under the condition": ('        text = f"', '            text = f"'),
    "a tuple of one": ("factor = 2.0", "factor = (2.0,)"),
    "an order": ("text, \"one\"", "\"one\", text"),
    "a text that is no docstring": ("factor = 2.0", 'factor = "2.0"'),
    "a keyword": ("*, scale", "scale"),
}  # fmt: skip


@pytest.mark.parametrize("change", SAME)
def test_what_changes_no_number_does_not_count(change):
    old, new = SAME[change]
    assert CODE.count(old) == 1
    ast.parse(CODE.replace(old, new))
    assert meaning(CODE.replace(old, new)) == meaning(CODE)


@pytest.mark.parametrize("change", OTHER)
def test_what_could_change_a_number_counts(change):
    old, new = OTHER[change]
    assert CODE.count(old) == 1
    ast.parse(CODE.replace(old, new))
    assert meaning(CODE.replace(old, new)) != meaning(CODE)


def test_the_order_of_statements_counts_and_an_empty_source_means_nothing():
    assert meaning("a = 1\nb = 2\n") != meaning("b = 2\na = 1\n")
    assert meaning("a = 1\n") != meaning("a = 1\na = 1\n")
    assert meaning("") == meaning("# nothing\n") == ""
    assert meaning("x = (1,)\n") != meaning("x = (1)\n")
    assert meaning("ä = 'ü'  # é\n'''doc'''\n") == meaning("ä = \"ü\"\n'''doc'''\n")


# Other Pythons of this machine, as far as they are found.
PYTHONS = [python for minor in range(12, 16) for python in (shutil.which(f"python3.{minor}"), *glob.glob(
    str(Path.home() / f".pyenv/versions/3.{minor}.*/bin/python3"))) if python and "shims" not in python]  # fmt: skip
F_STRINGS = '''
def f(x, width=3):
    """Doc."""
    if x is None:
        raise ValueError(f"no {x!r}: {x}")
    return f"{x:{width}} and {{x}} {f'{x}' + 'y'}" f'{x}' + rf"\\d{x}" "plain", f"""{x}
    and more"""
'''


@pytest.mark.parametrize("python", PYTHONS)
def test_a_source_means_the_same_under_every_python(python, tmp_path):
    """From 3.12 on an f-string is several tokens; a lock that one Python wrote must not trip another."""
    (tmp_path / "f_strings.py").write_text(F_STRINGS)
    files = [str(tmp_path / "f_strings.py"), *map(str, sorted((ROOT / "reducenet").glob("[mw]*/*.py")))]
    code = (
        "import sys, types; path, *files = sys.argv[1:]; m = types.ModuleType('m'); exec(open(path, encoding='utf-8').read(), vars(m)); "
        "[sys.stdout.write(m.meaning(open(file, encoding='utf-8').read()) + chr(0)) for file in files]"
    )
    command = [python, "-X", "utf8", "-I", "-c", code, str(ROOT / "reducenet" / "words" / "meaning.py"), *files]
    said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    for file, theirs in zip(files, said.split(chr(0)), strict=False):
        assert theirs == meaning(Path(file).read_text(encoding="utf-8")), file


# ---- what a source imports

FORMS = {
    "import": ("import reducenet.deploy.fuse", {"deploy.fuse"}),
    "import as": ("import reducenet.deploy.fuse as f, os", {"deploy.fuse"}),
    "from a module": ("from reducenet.deploy.fuse import fuse, os", {"deploy.fuse"}),
    "a module from its package": ("from reducenet.deploy import fuse, trace as t", {"deploy", "deploy.fuse", "deploy.trace"}),
    "relative, a neighbour": ("from . import removal", {"methods", "methods.removal"}),
    "relative, from a neighbour": ("from .removal import groups", {"methods.removal"}),
    "relative, from above": ("from ..deploy import fuse", {"deploy", "deploy.fuse"}),
    "relative, from a module above": ("from ..deploy.fuse import fuse", {"deploy.fuse"}),
    "a package from above": ("from .. import deploy", {"deploy"}),
    "a name of the face": ("from reducenet import fuse, merge", {"deploy.fuse", "algebra.exact"}),
    "a name of the face, renamed": ("from reducenet import load_data as load", {"data.tensors"}),
    "an attribute of the face": ("import reducenet\nreducenet.fuse(net)", {"deploy.fuse"}),
    "by a string": ("importlib.import_module('reducenet.deploy.fuse')", {"deploy.fuse"}),
    "inside a function": ("def f():\n    from reducenet.deploy.fuse import fuse", {"deploy.fuse"}),
    "for types": ("if TYPE_CHECKING:\n    from reducenet.deploy.fuse import fuse", {"deploy.fuse"}),
    "another package": ("import torch\nfrom os import path\nimport reducenets.deploy", set()),
    "no module": ("x = 'reducenet.deploy.fuse is a module'\ny = 'reducenet.nowhere'\nfrom reducenet.nowhere import z", set()),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_import_is_found_in_every_form(form):
    text, modules = FORMS[form]
    assert imported(text, "reducenet.methods.depth") == {f"reducenet.{module}" for module in modules}


def test_relative_imports_of_a_package_start_in_it():
    assert imported("from .removal import groups", "reducenet.methods") == {"reducenet.methods.removal"}
    assert imported("from ..deploy import fuse", "reducenet.methods") == {"reducenet.deploy", "reducenet.deploy.fuse"}
    assert imported("from . import here", "") == set()  # a file from outside


def test_a_closure_holds_all_that_is_imported_by_what_is_imported_but_what_has_its_own_time():
    found = closure("reducenet.methods.depth")
    assert {"reducenet.methods.depth", "reducenet.methods.removal", "reducenet.deploy.fuse", "reducenet.algebra.exact"} <= found
    assert not [name for name in found if name.startswith(("reducenet.words", "reducenet.store", "reducenet.study", "reducenet.course"))]
    assert "reducenet.learn.measure" not in found
    assert closure("reducenet.algebra.exact") == {"reducenet.algebra.exact", "reducenet.algebra.plain"}
    assert closure("reducenet.methods.depth", "reducenet.algebra.borders") == found | closure("reducenet.algebra.borders")


def test_what_all_runs_share_lies_in_three_parts_that_do_not_overlap():
    parts = {part: shared_modules(part) for part in lock.SHARED_PARTS}
    assert {"reducenet.learn.train", "reducenet.play.play", "reducenet.play.checkpoint", "reducenet.data.tensors", "reducenet.data.sources",
            "reducenet.learn.evaluate", "reducenet.nets.seeding"} <= parts["train"]  # fmt: skip
    assert parts["count"] == {"reducenet.learn.measure"}
    assert {"reducenet.play.piece", "reducenet.play.timing", "reducenet.deploy.fuse"} <= parts["measure"]
    assert len(frozenset().union(*parts.values())) == sum(map(len, parts.values()))
    words_in_train = {word.name for word in every() if word.home in parts["train"]}
    assert words_in_train == {"fit"}  # the change of a word makes its own runs stale, not all


def test_what_a_search_decides_by_name_is_among_what_it_imports():
    """`{"linearise": ...}` is no import: the function behind it must be one too, or its change would go unnoticed."""
    sentence = words()
    for word in every():
        modules = closure(word.home) | shared_modules("train")
        for module in closure(word.home):
            if module.startswith("reducenet.methods."):
                for node in ast.walk(ast.parse(lock.file_of(module).read_text())):
                    for key in getattr(node, "keys", []) if isinstance(node, ast.Dict) else []:
                        if isinstance(key, ast.Constant) and key.value in sentence:
                            assert sentence[key.value].home in modules, (word.name, key.value)


# ---- the lock, on a copy of the package


class Copy:
    """A copy of the package whose lock knows its source as it is."""

    def __init__(self, folder, anew):
        self.folder, self.anew = folder, anew
        self.accept()

    def accept(self):
        self.anew()
        entry = lambda found: {"version": f"v {found}", "source": found}  # noqa: E731
        lock.FILE.write_text(json.dumps({"shared": {part: entry(lock.shared_source(part)) for part in lock.SHARED_PARTS},
                                         "words": {name_of(word): entry(source(word)) for word in every()}, "proofs": {}}))  # fmt: skip
        self.anew()

    def edit(self, file, old, new):
        path = self.folder / file
        text = path.read_text()
        assert old in text, (file, old)
        path.write_text(text.replace(old, new, 1))
        self.anew()

    def tripped(self):
        try:
            check(every())
        except Tripped as error:
            said = str(error)
        else:
            return set()
        (found,) = re.findall(r"^the source of (.*) has changed; `reducenet accept` plays finished runs again and finds [^\n]*$", said)
        return set(found.split(", "))


@pytest.fixture
def copy(tmp_path, monkeypatch, anew):
    folder = tmp_path / "reducenet"
    shutil.copytree(ROOT / "reducenet", folder, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "*.safetensors"))
    monkeypatch.setattr(lock, "PACKAGE", folder)
    monkeypatch.setattr(declared, "PACKAGE", folder)
    monkeypatch.setattr(lock, "FILE", folder / "words" / "lock.json")
    return Copy(folder, anew)


def test_nothing_trips_where_nothing_has_changed(copy):
    assert copy.tripped() == set()


PROJECT = "methods/simkd.py"


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (PROJECT, '"""', '"""Once more. '),
        (PROJECT, "\nfrom", "\n# a comment\nfrom"),
        ("learn/train.py", '"fit: every parameter is frozen; attach a side branch or freeze less"', '"fit: nothing is left to train"'),
        ("play/piece.py", '"""One run', '"""A run'),
        ("store.py", "SCHEMA = ", "SCHEMA = 1 + "),
        ("words/word.py", "REQUIRED = object()", "REQUIRED = object"),
        ("study/read.py", "TICKET = 1000", "TICKET = 10"),
        ("course/exercises/judge.py", "1e-10", "1e-9"),
    ],
)
def test_what_changes_no_number_trips_nothing(file, old, new, copy):
    copy.edit(file, old, new)
    assert copy.tripped() == set()


def test_a_changed_word_trips_alone(copy):
    copy.edit(PROJECT, "factor: ", "more: Positive = 1, factor: ")
    assert copy.tripped() == {"project"}


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("learn/train.py", {"what all runs share (train)"}),
        ("play/play.py", {"what all runs share (train)"}),
        ("nets/seeding.py", {"what all runs share (train)"}),
        ("data/sources.py", {"what all runs share (train)"}),
        ("play/piece.py", {"what all runs share (measure)"}),
        ("learn/measure.py", {"what all runs share (count)"}),
        ("data/fashion.py", {"dataset fashion-mini", "dataset fashion-mnist"}),
        ("methods/lottery.py", {"best_of"}),
    ],
)  # fmt: skip
def test_a_changed_module_trips_what_it_belongs_to(file, names, copy):
    (copy.folder / file).write_text((copy.folder / file).read_text() + "\nNEW = 1\n")
    copy.anew()
    assert copy.tripped() == names


def test_what_words_share_trips_all_of_them_and_no_other(copy):
    (copy.folder / "methods" / "removal.py").write_text((copy.folder / "methods" / "removal.py").read_text() + "\nNEW = 1\n")
    copy.anew()
    users = {name_of(word) for word in every() if "reducenet.methods.removal" in closure(word.home)}
    assert {"search_depth", "search_mask", "snap"} <= users
    assert copy.tripped() == users
    assert "prune" not in users


IMPORTS = {
    "import": "import reducenet.nets.extra",
    "from": "from reducenet.nets.extra import X",
    "from the package": "from reducenet.nets import extra",
    "relative": "from ..nets import extra",
    "relative from": "from ..nets.extra import X",
    "string": "import importlib\nimportlib.import_module('reducenet.nets.extra')",
    "in a function": "def later():\n    from reducenet.nets.extra import X",
    "through another": "from reducenet.nets.between import X",
}


@pytest.mark.parametrize("form", IMPORTS)
def test_what_a_word_imports_trips_it_in_every_form(form, copy):
    (copy.folder / "nets" / "extra.py").write_text("X = 1\n")
    (copy.folder / "nets" / "between.py").write_text("from reducenet.nets.extra import X\n")
    copy.edit(PROJECT, "\nfrom", f"\n{IMPORTS[form]}\nfrom")
    assert copy.tripped() == {"project"}
    copy.accept()
    assert copy.tripped() == set()
    (copy.folder / "nets" / "extra.py").write_text("X = 1  # one\n")
    copy.anew()
    assert copy.tripped() == set()
    (copy.folder / "nets" / "extra.py").write_text("X = 2\n")
    copy.anew()
    assert copy.tripped() == {"project"}


def test_a_name_of_the_packages_face_trips_its_importer(copy):
    copy.edit(PROJECT, "\nfrom", "\nfrom reducenet import add_relu\nfrom")
    copy.accept()
    copy.edit("moves/activations.py", "\nfrom", "\nNEW = 1\nfrom")
    assert "project" in copy.tripped()


def test_only_the_words_that_are_asked_about_trip(copy):
    copy.edit(PROJECT, "factor: ", "more: Positive = 1, factor: ")
    check([find("sentence", "fold"), find("loss", "kd")])
    with pytest.raises(Tripped, match="the source of project has changed"):
        check([find("sentence", "project")])
    copy.edit("learn/train.py", "\nfrom", "\nNEW = 1\nfrom")
    with pytest.raises(Tripped, match=r"the source of what all runs share \(train\), project has changed"):
        check([find("sentence", "project")])


def test_a_version_stays_while_the_source_changes_and_a_word_that_is_new_has_its_source_for_one(copy):
    before = version(find("sentence", "project")), source(find("sentence", "project")), shared_version("train")
    assert before[0] == f"v {before[1]}"
    copy.edit(PROJECT, "factor: ", "more: Positive = 1, factor: ")
    copy.edit("learn/train.py", "\nfrom", "\nNEW = 1\nfrom")
    assert version(find("sentence", "project")) == before[0]
    assert source(find("sentence", "project")) != before[1]
    assert shared_version("train") == before[2] != f"v {lock.shared_source('train')}"
    lock.FILE.unlink()
    copy.anew()
    assert known() == {"shared": {}, "words": {}, "proofs": {}}
    assert version(find("sentence", "project")) == source(find("sentence", "project"))
    assert shared_version("train") == lock.shared_source("train")
    assert copy.tripped() == set()


def test_two_words_of_one_file_have_two_versions(copy):
    assert source(find("dataset", "cifar10")) != source(find("dataset", "cifar100"))
    assert source(find("sentence", "fit")) != source(find("loss", "ce"))


def test_words_are_called_so_that_no_two_share_a_name():
    names = [name_of(word) for word in every()]
    assert len(set(names)) == len(names)
    assert {"fit", "loss kd", "block scaler", "dataset synthetic"} <= set(names)


def test_the_words_of_a_run_are_its_own_and_those_it_names():
    kd = whole({"fit": {"epochs": 1, "loss": "kd", "teacher": "t"}})
    assert [name_of(word) for word in words_of([whole({"build": "plain"}), kd, kd], "synthetic")] == [
        "dataset synthetic", "build", "block plain", "fit", "loss kd",
    ]  # fmt: skip


def test_the_projects_lock_knows_the_source_as_it_is(anew):
    """Where this fails, `reducenet accept` is to be run."""
    check(every())
    entries, names = known(), {name_of(word) for word in every()}
    assert set(entries["words"]) <= names
    assert {name for name in names if not name.startswith("dataset ")} <= set(entries["words"])  # not every data set is everywhere
    assert {"dataset synthetic", "dataset fashion-mini"} <= set(entries["words"])
    assert set(entries["shared"]) == set(lock.SHARED_PARTS)


def test_a_study_is_not_run_with_a_source_that_is_not_in_the_lock(tmp_path, monkeypatch, capsys, anew):
    file = make(tmp_path)
    changed = {"shared": {}, "words": {"loss kd": {"version": "v", "source": "something else"}}}
    (tmp_path / "lock.json").write_text(json.dumps(changed))
    monkeypatch.setattr(lock, "FILE", tmp_path / "lock.json")
    anew()
    assert main(["run", str(file), "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert "the source of loss kd has changed; `reducenet accept`" in printed.err
    assert not (file.parent / "store").exists()


# ---- words from outside


OUTSIDE = """
    from reducenet.words import move
    from reducenet.nets.extra import X
    @move
    def shake(net):
        return net
    """


def test_a_word_from_outside_has_its_source_for_a_version_and_what_it_imports_with_it(copy, tmp_path):
    file = tmp_path / "my_words.py"
    file.write_text(textwrap.dedent(OUTSIDE))
    (copy.folder / "nets" / "extra.py").write_text("X = 1\n")

    def now():
        copy.anew()
        add(file)
        check([find("sentence", "shake")])
        return version(find("sentence", "shake"))

    first = now()
    file.write_text(file.read_text() + "# a comment\n")
    assert now() == first
    (copy.folder / "nets" / "extra.py").write_text("X = 2\n")
    second = now()
    assert second != first
    file.write_text(file.read_text().replace("return net", "return net.eval()"))
    assert now() not in (first, second)
