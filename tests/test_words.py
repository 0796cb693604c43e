"""A word is declared by a decorated signature: the same in a study file, in Python, in the terminal and in a notebook."""

import inspect
import linecache
import subprocess
import sys
import textwrap
import tomllib
import types

import numpy as np
import pytest
import torch
from studies import ROOT, make

import reducenet
from reducenet import build, drop_branch, fit, freeze
from reducenet import words as grammar
from reducenet.cli import main
from reducenet.moves import side
from reducenet.nets.blocks import PlainBlock
from reducenet.study.read import read
from reducenet.words import (
    KINDS,
    REQUIRED,
    MoveError,
    add,
    arms_named,
    caption,
    find,
    function,
    others,
    perform,
    place,
    said,
    split,
    used,
    whole,
    words,
)  # fmt: skip
from reducenet.words.declared import SUPPLIED
from reducenet.words.face import homes
from reducenet.words.grammar import example_of, first_sentence, kind_of, show

EVERY = [word for kind in KINDS for word in words(kind).values()]
WORDS = ROOT / "ablations" / "words.toml"


# ---- what is read from source is what Python has


@pytest.mark.parametrize("word", EVERY, ids=lambda word: f"{word.kind}-{word.name}")
def test_what_is_read_from_the_source_is_what_python_has(word):
    """Same function, same parameters, same defaults, though no torch was imported to read them."""
    made = function(word)
    assert made.word == (word.kind, word.name)
    assert made.__name__ == word.function
    assert word.says == inspect.getdoc(made)
    theirs = [p for p in inspect.signature(made).parameters.values() if p.name not in SUPPLIED and p.kind is not p.VAR_KEYWORD]
    for ours, p in zip(word.parameters, theirs, strict=True):
        assert ours.name == p.name
        assert ours.default is REQUIRED if p.default is p.empty else ours.default == p.default
        assert str(ours.type) == str(p.annotation)


def test_the_words_are_all_there():
    assert list(words("build", "choice", "fit")) == ["build", "vanillanet", "best_of", "fit"]
    assert len(words("move")) == 21
    assert set(words("loss")) == {"ce", "smoothed", "kd", "features", "hints", "attention", "match", "block-wise", "layer-folding",
                                  "sandwich", "netaug"}  # fmt: skip
    assert set(words("block")) == {"plain", "scaler", "published", "lambda", "inverted", "repvgg"}
    assert {name for name, word in words().items() if word.exact} == {"fold", "fuse"}
    assert words("tune", "search").keys() == words("tune").keys() | words("search").keys()
    assert list(words("tune", "search"))[:3] == list(words("tune"))
    assert words() == {name: word for kind in ("build", "choice", "fit", "move", "search", "tune") for name, word in words(kind).items()}


def test_every_public_name_leads_to_what_it_names():
    for name, module in homes().items():
        made = getattr(reducenet, name)
        assert made is getattr(sys.modules[module], "load" if name == "load_data" else name), name
        assert name in dir(reducenet)
    for word in [word for word in EVERY if word.kind not in ("block", "dataset")]:
        assert getattr(reducenet, word.function) is function(word)
    public = "LambdaReLU ReduceNet ScalerBlock fold_bn merge repair fuse_report to_onnx slide MoveError perform DivergedError accuracy"
    assert {*public.split(), "parameters", "macs", "latency", "DataError", "load_data", "save", "load"} <= set(homes())


def test_reading_the_words_imports_no_torch():
    code = "import sys; from reducenet.words import words, whole; whole({'fit': 3}); print(len(words()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(words())), "False"]


def test_every_word_stands_in_the_study_that_accept_plays():
    """But data sets: that one is made in place, those are files."""
    chains = [*read(WORDS).chains.values()]
    found = {(word.kind, word.name) for chain in chains for move in chain for word in used(move)}
    assert found == {(word.kind, word.name) for word in EVERY if word.kind != "dataset"}
    for width in (4, 8):
        widths = {
            move["build"]["width"] for chain in read(WORDS, build={"width": width}).chains.values() for move in chain if "build" in move
        }
        assert widths == {width}


# ---- the grammar in the terminal


@pytest.mark.parametrize("word", EVERY, ids=lambda word: f"{word.kind}-{word.name}")
def test_the_terminal_shows_a_word_whole(word, capsys):
    assert main(["words", word.name]) == 0
    text = capsys.readouterr().out
    assert f"{word.name} ({word.kind}: " in text
    assert word.says in text
    for p in word.parameters:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {p.name} ")]
        assert ("by default" in line) == (p.default is not REQUIRED)
    example = text.split("\nexample\n  ")[1].splitlines()[0]
    if word.kind != "dataset":
        entry = tomllib.loads(f"move = {example}")["move"]
        assert (word.kind, word.name) in [(other.kind, other.name) for other in used(entry)]
        whole(entry, {"fit": {"epochs": 1}})


def test_the_terminal_shows_all_words(capsys):
    assert main(["words"]) == 0
    text = capsys.readouterr().out
    for word in EVERY:
        assert any(line.split()[:1] == [word.name] for line in text.splitlines())
        assert first_sentence(word) in text
    assert max(map(len, text.splitlines())) < 140
    assert len(text.splitlines()) == len(EVERY) + 2 * len(KINDS) + 1


def test_a_word_that_is_none_is_told_its_neighbours(capsys):
    assert main(["words", "drop_brunch"]) == 2
    assert "unknown word 'drop_brunch' (did you mean 'drop_branch'?); known: build, vanillanet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "parameter", "kind"),
    [
        ("fit", "epochs", "a whole number at least 1"),
        ("fit", "lr", "a number above 0"),
        ("fit", "momentum", "a number at least 0 and at most 1"),
        ("fit", "slide_until", "a number above 0 and at most 1"),
        ("fit", "cost_of", "the name of an arm (in Python: its network)"),
        ("fit", "schedule", "one of one-cycle, cosine"),
        ("fit", "slide", "one of linear, half-cosine, hard"),
        ("build", "block", "one of plain, scaler, published, lambda, inverted, repvgg"),
        ("freeze", "parts", "a text or a list of these"),
        ("fuse", "strict", "true or false"),
    ],
)
def test_what_a_parameter_may_be_is_said_in_words(word, parameter, kind):
    found = find("sentence", word)
    assert kind_of(next(p for p in found.parameters if p.name == parameter)) == kind


def test_examples_say_the_most_they_can_and_can_be_read():
    assert example_of(find("sentence", "drop_branch")) == '"drop_branch"'
    assert example_of(find("loss", "kd")) == '{ fit = { loss = "kd", teacher = "teacher" } }'
    assert example_of(find("dataset", "cifar10")) == 'data = "cifar10"'
    assert '"stage1.0.branch2.0" = { out = [0, 2] }' in example_of(find("sentence", "resize"))


def test_a_long_summary_is_cut_at_a_word():
    fitted = find("sentence", "fit")
    assert len(first_sentence(fitted)) <= 110
    assert first_sentence(fitted).endswith(" …")
    assert fitted.summary.startswith(first_sentence(fitted)[:-2])
    assert first_sentence(find("loss", "ce")) == find("loss", "ce").summary


# ---- a sentence


def test_split_takes_a_name_a_table_and_a_short_form():
    assert split("fold") == ("fold", {})
    assert split({"fit": {"epochs": 2}}) == ("fit", {"epochs": 2})
    assert split({"freeze": "all"}) == ("freeze", {"parts": "all"})
    assert split({"build": "plain"}) == ("build", {"block": "plain"})
    for wrong in ({"fold": {}, "fuse": {}}, {}, 3, None):
        with pytest.raises(MoveError, match="a move is a name or a table with one name, not"):
            split(wrong)
    with pytest.raises(MoveError, match="drop_branch: takes no parameters, not 3"):
        split({"drop_branch": 3})


def test_whole_writes_every_parameter_out():
    assert whole("fold") == {"fold": {}}
    assert whole({"fit": 3}) == {"fit": {"epochs": 3, "cost_of": None, "loss": "ce", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4,
                                         "batch": 128, "schedule": "one-cycle", "slide": None, "slide_until": 1.0}}  # fmt: skip
    kd = whole({"fit": {"epochs": 1, "loss": "kd", "teacher": "t", "temperature": 2}})["fit"]
    assert list(kd)[-4:] == ["teacher", "kd_weight", "temperature", "reduction"]
    assert kd["temperature"] == 2.0
    assert isinstance(kd["temperature"], float)


def test_what_is_said_goes_before_a_studys_default_and_that_before_the_words_own():
    defaults = {"fit": {"epochs": 5, "lr": 0.3, "temperature": 2.0}}
    assert whole("fit", defaults)["fit"]["lr"] == 0.3
    assert whole({"fit": {"lr": 0.2}}, defaults)["fit"]["lr"] == 0.2
    assert "temperature" not in whole("fit", defaults)["fit"]
    assert whole({"fit": {"loss": "kd", "teacher": "t"}}, defaults)["fit"]["temperature"] == 2.0
    assert whole({"freeze": "all"}, defaults) == {"freeze": {"parts": "all"}}
    with pytest.raises(MoveError, match="fit: lr must be above 0, not 0"):
        whole("fit", {"fit": {"epochs": 1, "lr": 0}})


def test_said_leaves_out_what_is_the_default_and_names_of_arms_if_asked():
    full = whole({"fit": {"epochs": 1, "loss": "kd", "teacher": "t", "temperature": 4.0, "kd_weight": 0.5}})
    assert said(full) == {"fit": {"epochs": 1, "loss": "kd", "teacher": "t", "kd_weight": 0.5}}
    assert said(full, arms=False) == {"fit": {"epochs": 1, "loss": "kd", "kd_weight": 0.5}}
    assert said({"build": {"block": "plain", "width": 8}}) == {"build": {"block": "plain"}}
    assert whole(said(full)) == full


def test_the_arms_that_a_move_names():
    assert arms_named(whole({"fit": {"epochs": 1, "loss": "kd", "teacher": "t"}})) == [("teacher", "t")]
    assert arms_named(whole({"fit": {"cost_of": "u", "loss": "kd", "teacher": "t"}})) == [("cost_of", "u"), ("teacher", "t")]
    assert arms_named(whole({"best_of": {"arm": "p", "tickets": 2}})) == [("arm", "p")]
    assert arms_named(whole({"fit": 1})) == arms_named(whole("fold")) == []


def test_the_words_that_a_move_uses():
    assert [word.name for word in used("fit")] == ["fit", "ce"]
    assert [word.name for word in used({"fit": {"loss": "kd"}})] == ["fit", "kd"]
    assert [word.name for word in used({"build": "plain"})] == ["build", "plain"]
    assert [word.kind for word in used("build")] == ["build", "block"]
    assert [word.name for word in used("fold")] == ["fold"]


def test_a_caption_says_what_differs_from_the_defaults(tmp_path):
    study = read(make(tmp_path))
    assert caption(study.chains["plain"], study.defaults) == "build(block plain) → fit"
    assert caption(study.chains["drop"], study.defaults) == "build(block scaler, expansion 2) → fit → drop_branch"
    assert caption(study.chains["lora"][3:]) == (
        "freeze(parts all) → attach(expansion 2) → fit(epochs 1, loss kd, lr 0.05, teacher teacher) → fold"
    )
    assert caption([whole({"freeze": ["conv3", "classifier"]})]) == "freeze(parts conv3, classifier)"
    assert caption([whole({"freeze": "größe.con?"})]) == "freeze(parts größe.con?)"
    assert caption([whole({"narrow": [1, 2, 1]})]) == "narrow(expansion 1, 2, 1)"


def test_perform_plays_one_move_from_the_seed():
    net = perform(None, {"build": {"block": "scaler", "width": 4}}, seed=3)
    assert torch.equal(net.classifier.weight, build("scaler", width=4, seed=3).classifier.weight)
    assert not torch.equal(net.classifier.weight, perform(None, {"build": {"block": "scaler", "width": 4}}).classifier.weight)
    assert not hasattr(perform(net, "drop_branch").stage1[0], "branch1")
    assert not perform(net, {"freeze": "classifier"}).classifier.weight.requires_grad


@pytest.mark.parametrize(
    ("move", "message"),
    [({"shrink": {}}, "unknown move 'shrink'; known: build, vanillanet, best_of, fit, linearise"), ("snap", "snap needs data"),
     ("recalibrate", "recalibrate needs data"), ({"fit": 1}, "fit needs data"), ({"best_of": {}}, "best_of needs data")],
)  # fmt: skip
def test_what_cannot_be_performed(move, message):
    with pytest.raises(MoveError, match=message):
        perform(build("plain", width=4), move)


def test_whatever_draws_gets_the_seed_of_the_run(monkeypatch):
    """Nothing has to be said about it but the signature."""
    drawn = []

    def drawing(net, *, seed=0):
        drawn.append(seed)
        return net

    monkeypatch.setattr(side, "fold", drawing)
    perform(build("plain", width=4), "fold", seed=7)
    assert drawn == [7]


# ---- the one check


@pytest.mark.parametrize(
    ("move", "message"),
    [
        ({"fit": {"epochs": 0}}, "fit: epochs must be at least 1, not 0"),
        ({"fit": {"epochs": 1.0}}, "fit: epochs must be a whole number, not 1.0"),
        ({"fit": {"epochs": True}}, "fit: epochs must be a whole number, not True"),
        ({"fit": {"epochs": 1, "lr": "fast"}}, "fit: lr must be a number, not 'fast'"),
        ({"fit": {"epochs": 1, "lr": float("nan")}}, "fit: lr must be a finite number, not nan"),
        ({"fit": {"epochs": 1, "momentum": 1.5}}, "fit: momentum must be at most 1, not 1.5"),
        ({"fit": {"epochs": 1, "momentum": -0.5}}, "fit: momentum must be at least 0, not -0.5"),
        ({"fit": {"epochs": 1, "loss": "smoothed", "smoothing": 1}}, "fit: smoothing must be below 1, not 1"),
        ({"fit": {"epochs": 1, "lr": -1, "batch": 0}}, "fit: lr must be above 0, not -1 (and 1 more)"),
        ({"fit": {"epochs": 1, "schedule": "steps"}}, "fit: unknown schedule 'steps'; known: one-cycle, cosine"),
        ({"fuse": {"strict": 1}}, "fuse: strict must be true or false, not 1"),
        ({"freeze": 3}, "freeze: parts must be a text or a list, not 3"),
        ({"freeze": {}}, "freeze: parts: is missing"),
        ({"freeze": {"parts": "all", "part": "all"}}, "freeze: unknown parameter 'part' (did you mean 'parts'?); known: parts"),
        ({"fold": {"strict": True}}, "fold: takes no parameters, not 'strict'"),
        ({"resize": {"keep": 3}}, "resize: keep must be a table, not 3"),
        ({"build": {"block": "plain", "lam": 0.5}}, "build: nothing reads 'lam' here; leave it out"),
        ({"fit": {"epochs": 1, "cost_of": "plain"}}, "fit: a fit needs either epochs or cost_of"),
        ({"build": {"depth": 9}}, "build: depth must be 6n + 2 (8, 14, 20, ...), not 9"),
    ],
)
def test_what_makes_no_sense_is_refused_in_our_words(move, message):
    with pytest.raises(MoveError) as error:
        whole(move)
    assert str(error.value) == message


NET = build("plain", width=4)
SAME_WORDS = [
    ({"freeze": {"parts": "al"}}, lambda: freeze(NET, "al")),
    ({"freeze": {"parts": []}}, lambda: freeze(NET, ())),
    ({"build": {"depth": 9}}, lambda: build(depth=9)),
    ({"build": {"block": "plain", "scaler": 0.5}}, lambda: build("plain", scaler=0.5)),
    ({"build": {"block": "plane"}}, lambda: build("plane")),
    ({"fit": {"epochs": 1, "lr": -1}}, lambda: fit(NET, None, epochs=1, lr=-1)),
    ({"fit": {"epochs": 1, "loss": "kd"}}, lambda: fit(NET, None, epochs=1, loss="kd")),
    ({"fit": {"epochs": 1, "slide_until": 0.5}}, lambda: fit(NET, None, epochs=1, slide_until=0.5)),
    ({"fit": {}}, lambda: fit(NET, None)),
    ({"attach": {"expansion": 2, "rank": 2}}, lambda: side.attach(NET, 2, rank=2)),
]


@pytest.mark.parametrize(("move", "call"), SAME_WORDS, ids=lambda said: str(said)[:40] if isinstance(said, dict) else "")
def test_a_python_call_is_refused_in_the_words_of_a_study_file(move, call):
    with pytest.raises(MoveError) as in_a_file:
        whole(move)
    with pytest.raises(MoveError) as in_python:
        call()
    assert str(in_python.value) == str(in_a_file.value)


def test_a_python_call_hands_over_networks_functions_classes_and_tuples():
    assert freeze(NET, ("classifier", "conv3")).classifier.weight.requires_grad is False
    assert isinstance(build(PlainBlock, width=4).stage1[0], PlainBlock)
    with pytest.raises(TypeError, match="drop_branch: got an unexpected keyword argument 'deep'"):
        drop_branch(NET, deep=3)
    with pytest.raises(MoveError, match="epochs must be at least 1"):  # a loss of one's own reads none of the others' parameters
        fit(NET, None, epochs=0, loss=lambda net, x, y: None)


def test_a_python_call_may_hand_over_numbers_of_numpy():
    assert build("plain", width=np.int64(4)).stem[0].out_channels == 4
    assert function(find("sentence", "narrow"))(build("scaler", width=4), [np.int64(1), 2, np.int64(1)])
    with pytest.raises(MoveError, match="build: width must be at least 1, not 0"):
        build("plain", width=np.int64(0))
    with pytest.raises(MoveError, match=r"build: width must be a whole number, not array\(\[4\]\)"):
        build("plain", width=np.array([4]))


@pytest.mark.parametrize("between", ["str", "dict", "int", "float", "bool", "constrained-int", "constrained-float", "list[int]"])
def test_a_place_is_said_without_pydantics_names(between):
    assert place({"loc": ("arms", "a", between, "chain", 0)}) == "arms.a.chain.0"


def test_of_several_things_that_a_value_might_be_the_closest_complains():
    for given, message in (
        ({"freeze": 3}, "freeze: parts must be a text or a list, not 3"),
        ({"freeze": ["all", 3]}, "freeze: parts.1 must be a text, not 3"),
        ({"narrow": [1, 2.5]}, "narrow: expansion.1 must be a whole number, not 2.5"),
        ({"prune": {"macs": "few"}}, "prune: macs must be a whole number or a number, not 'few'"),
    ):
        with pytest.raises(MoveError) as error:
            whole(given)
        assert str(error.value) == message


def test_the_word_of_another_kind_is_no_word_here():
    assert find("loss", "kd").kind == "loss"
    assert find("sentence", "fold").kind == "move"
    with pytest.raises(MoveError, match="unknown move 'kd'"):
        find("sentence", "kd")
    with pytest.raises(MoveError, match="unknown loss 'fold'; known: ce, smoothed"):
        find("loss", "fold")
    with pytest.raises(MoveError, match=r"unknown data set 'cifar1' \(did you mean 'cifar10'\?\); known: cifar10"):
        find("dataset", "cifar1")
    assert others(find("sentence", "fold")) == {}
    assert others(find("sentence", "build")) == words("block")


# ---- files of words from outside


SHAKE = '''
from reducenet.words import Share, move

HALF = 0.5

def _why(by, **_):
    return "by half is dull" if by == 0.25 else None

@move(exact=True, refuse=_why)
def shake(net, by: Share = HALF, *, seed: int = 0):
    """Shakes."""
    return net, by, seed
'''


def outside(folder, text=SHAKE, name="my_words.py"):
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file


def test_a_file_from_outside_adds_its_words(tmp_path, anew):
    file = outside(tmp_path)
    add(file)
    add(str(file))  # again is nothing
    assert grammar.added() == [str(file)]
    word = find("sentence", "shake")
    assert (word.kind, word.home, word.exact, word.says) == ("move", str(file), True, "Shakes.")
    assert whole("shake") == {"shake": {"by": 0.5}}
    assert function(word)(1, 0.75) == (1, 0.75, 0)
    assert function(word) is function(word)
    assert perform(2, {"shake": 0.75}, seed=9) == (2, 0.75, 9)
    for refused in (lambda: whole({"shake": 0.25}), lambda: function(word)(1, 0.25)):
        with pytest.raises(MoveError, match="^shake: by half is dull$"):
            refused()
    assert "shake" in show()
    anew()
    with pytest.raises(MoveError, match="unknown move 'shake'"):
        find("sentence", "shake")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "no word is declared there; decorators: build, choice, fit, move, search, tune, loss, block, dataset"),
        ("from reducenet.words import move\n\ndef fold(net): ...\n", "no word is declared there"),
        ("from reducenet.words import move\n@move\ndef fold(net): ...\n", "'fold' is a word already"),
        ('from reducenet.words import loss\n@loss("kd")\ndef mine(): ...\n', "'kd' is a word already"),
        ("from reducenet.words import move\n@move\ndef mine(net, by): ...\n", "mine: the parameter 'by' has no type; types: Above0"),
        ("from reducenet.words import move\n@move\ndef mine(net, *, by): ...\n", "mine: the parameter 'by' has no type; types: Above0"),
        (
            "from math import pi\nfrom reducenet.words import Above0, move\n@move\ndef mine(net, by: Above0 = pi): ...\n",
            "mine: 'pi' cannot be read without running the file: name 'pi' is not defined",
        ),
        (
            "from reducenet.words import move\n@move(refuse=lambda: None)\ndef mine(net): ...\n",
            "mine: refuse must be a function of the same file, not 'lambda: None'",
        ),
        (
            "from elsewhere import rule\nfrom reducenet.words import move\n@move(refuse=rule)\ndef mine(net): ...\n",
            "mine: refuse must be a function of the same file, not 'rule'",
        ),
        ("from reducenet.words import (\n", "cannot be read as Python: '(' was never closed (line 1)"),
    ],
)
def test_a_file_that_cannot_be_words_is_one_line(text, message, tmp_path, anew):
    before = words()
    with pytest.raises(MoveError) as error:
        add(outside(tmp_path, text))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path))
    assert "\n" not in str(error.value)
    assert words() == before
    assert grammar.added() == []


def test_a_file_that_is_not_there_is_one_line(tmp_path, anew):
    with pytest.raises(MoveError, match=r"none\.py: no such file of words \(No such file or directory\)"):
        add(tmp_path / "none.py")


def test_a_move_and_a_loss_may_have_one_name(tmp_path, anew):
    add(outside(tmp_path, 'from reducenet.words import loss\n@loss("fold")\ndef mine():\n    "Folds."\n'))
    assert find("loss", "fold").says == "Folds."
    assert find("sentence", "fold").kind == "move"
    assert show("fold").count("Folds.") == 1
    assert "fold (move" in show("fold")


def test_a_decorator_may_have_another_name_here(tmp_path, anew):
    add(outside(tmp_path, "from reducenet.words import move as step\n@step\ndef hop(net):\n    'Hops.'\n"))
    assert find("sentence", "hop").kind == "move"


def test_a_word_in_a_cell_is_checked_as_any_other(anew):
    """As IPython runs a cell: its source is in `linecache`, under a name that is no file of words."""
    cell = SHAKE.replace("def shake", "def shiver")
    linecache.cache["<cell 1>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell 1>")
    names = {}
    exec(compile(cell, "<cell 1>", "exec"), names)
    assert names["shiver"](1, 0.75, seed=2) == (1, 0.75, 2)
    for wrong, message in ((2.0, "by must be at most 1, not 2.0"), (0.25, "by half is dull"), ("x", "by must be a number, not 'x'")):
        with pytest.raises(MoveError, match=f"^shiver: {message}$"):
            names["shiver"](1, wrong)
    assert perform(1, {"shiver": 0.75}, seed=2) == (1, 0.75, 2)


def test_a_cell_may_name_what_other_cells_have_given(anew):
    """Its decorator, its types, its constants and its rule stand in cells before it."""
    names = {"__name__": "cells"}
    for number, cell in enumerate([SHAKE.split("@move")[0].replace("0.25", "0.125"), "@move" + SHAKE.split("@move")[1]]):
        linecache.cache[f"<cells {number}>"] = (len(cell), None, cell.splitlines(keepends=True), f"<cells {number}>")
        exec(compile(cell, f"<cells {number}>", "exec"), names)
    assert whole("shake") == {"shake": {"by": 0.5}}
    assert names["shake"](1) == (1, 0.5, 0)
    with pytest.raises(MoveError, match="^shake: by half is dull$"):
        names["shake"](1, 0.125)


def test_a_block_in_a_cell_is_a_block(anew, monkeypatch):
    cell = textwrap.dedent("""
        from reducenet.words import Share, block
        from reducenet.nets.blocks import PlainBlock
        @block("fainter")
        class Fainter(PlainBlock):
            "F."
        """)
    linecache.cache["<cell 9>"] = (len(cell), None, cell.splitlines(keepends=True), "<cell 9>")
    main_ = types.ModuleType("a_notebook")  # as IPython's: without a file
    monkeypatch.setitem(sys.modules, "a_notebook", main_)
    exec(compile(cell, "<cell 9>", "exec"), vars(main_))
    assert isinstance(build("fainter", width=4).stage1[0], main_.Fainter)
    assert find("block", "fainter").says == "F."
