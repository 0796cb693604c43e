"""What a run would refuse is refused before anything trains: chains are played in miniature, by a helper process."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from studies import TINY, make

from reducenet.data.tensors import load
from reducenet.play.preview import Preview
from reducenet.store import Store
from reducenet.study import preview as previews
from reducenet.study.plan import plan
from reducenet.study.read import StudyError, read
from reducenet.words import lock

DATA = load("synthetic")


def refusals(text, folder):
    """The line of each arm that cannot be played."""
    played = Preview(read(make(folder, text)).chains, DATA)
    found = {arm: played.refusal(arm) for arm in played.chains}
    return {arm: why for arm, why in found.items() if why}


def test_a_study_that_works_is_refused_nothing(tmp_path):
    assert refusals(TINY, tmp_path) == {}


SEARCH = '{ build = { block = "lambda", expansion = 2 } }, "fit", { search_mask = 1 }, "fit", { linearise = "nothing.*" }'
TRAINED = 'after = "teacher"\nchain = ["drop_branch"]'
CANNOT = [
    ('chain = ["drop_branch", "drop_branch"]', "drop_branch: no block has a branch1"),
    ('chain = ["drop_branch", "fit", "fold"]', "fold: no conv has a side branch; it was folded already, or never attached"),
    ('chain = ["drop_branch", { freeze = "all" }, "fit"]', "fit: every parameter is frozen; attach a side branch or freeze less"),
    ('chain = ["drop_branch", { freeze = "stage9.*" }, "fit"]', "freeze: nothing here is called 'stage9.*'"),
    ('chain = [{ linearise = "stage9.*" }]', "linearise: "),
    ('chain = [{ attach = { at = "nowhere" } }]', "attach: "),
    ('chain = ["drop_branch", { narrow = 1 }]', "narrow: "),
    ('chain = ["drop_branch", { set_scaler = 0.5 }]', "set_scaler: "),
    ('chain = [{ search_mask = 1 }]', "search_mask: no block has a LambdaReLU inside"),
    ('chain = [{ search_width = 1e-9 }]', "search_width: "),
    ('chain = ["drop_branch", "renew"]', "renew: "),
    ('chain = ["drop_branch", { attach = { expansion = 2 } }, { reinit = { at = "*branch2.0" } }]', "reinit: "),
]  # fmt: skip


@pytest.mark.parametrize(("chain", "message"), CANNOT, ids=[chain[9:50] for chain, _ in CANNOT])
def test_what_cannot_be_played_is_refused_in_the_words_of_the_run(chain, message, tmp_path):
    assert TRAINED in TINY
    found = refusals(TINY.replace(TRAINED, f'after = "teacher"\n{chain}'), tmp_path)
    assert list(found) == ["drop"]
    assert found["drop"].startswith(message)
    assert "\n" not in found["drop"]


def test_who_learns_from_what_cannot_be_played_cannot_be_played(tmp_path):
    found = refusals(TINY.replace('{ expansion = 2 } }, "fit"]', '{ expansion = 2 } }, "snap", "fit"]'), tmp_path)
    assert set(found) == {"teacher", "drop", "lora"}


def test_nothing_behind_a_search_is_held_against_an_arm(tmp_path):
    """What it decides rests on an untrained network; the trained one may allow what this does not."""
    text = TINY.replace('{ build = "plain" }, { fit = { cost_of = "lora" } }', SEARCH)
    assert text != TINY
    assert refusals(text, tmp_path) == {}
    wrong = text.replace('"fit", { search_mask = 1 }', '"fit", { linearise = "nothing.*" }, { search_mask = 1 }')
    assert set(refusals(wrong, tmp_path)) == {"long"}


def test_tickets_are_played_and_what_follows_them(tmp_path):
    best = TINY + '\n[arms.best]\nchain = [{ best_of = { arm = "plain", tickets = 3 } }, "fuse"]\n'
    assert refusals(best, tmp_path) == {}
    assert set(refusals(best.replace('"fuse"]', '"drop_branch"]'), tmp_path)) == {"best"}


def test_beginnings_that_arms_share_are_played_once(tmp_path, monkeypatch):
    played, moves, one = Preview(read(make(tmp_path)).chains, DATA), [], Preview._one
    monkeypatch.setattr(Preview, "_one", lambda self, move, *more: moves.append(move) or one(self, move, *more))
    assert [played.refusal(arm) for arm in played.chains] == [None] * 5
    assert len(moves) == 2 + 2 + 1 + 1 + 4  # teacher, plain, the fit of long, drop, the rest of lora


def test_a_miniature_trains_one_step_on_few_images(tmp_path, monkeypatch):
    from reducenet.play import preview as module

    benches, play = [], module.play
    monkeypatch.setattr(module, "play", lambda moves, bench, **more: benches.append((moves, bench, more)) or play(moves, bench, **more))
    played = Preview(read(make(tmp_path, TINY.replace("epochs = 1", "epochs = 90, batch = 8"))).chains, DATA)
    assert played.refusal("lora") is None
    fits = [(moves[0]["fit"], bench, more["nth_fit"]) for moves, bench, more in benches if "fit" in moves[0]]
    assert [(given["epochs"], len(bench.data.train.labels), nth) for given, bench, nth in fits] == [(1, 16, 0), (1, 16, 1)]
    assert all(bench.data.pad == DATA.pad and bench.data.classes == DATA.classes for _, bench, _ in fits)


# ---- as a study asks


@pytest.fixture
def asked(monkeypatch):
    """The helper processes that were started."""
    started, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: started.append((command, more)) or popen(command, **more))
    return started


@pytest.mark.engine
def test_a_helper_process_plays_and_its_answer_is_kept(tmp_path, asked, monkeypatch):
    made = plan(make(tmp_path, TINY.replace(TRAINED, 'after = "teacher"\nchain = ["drop_branch", "fold", "fit"]')), device="cpu")
    store = Store(tmp_path / "store")
    first = list(previews.refusals(made, store))
    assert first == ["arms.drop: fold: no conv has a side branch; it was folded already, or never attached"]
    ((command, more),) = asked
    assert command == [sys.executable, "-m", "reducenet.play.preview"]
    assert more["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert more["env"]["OMP_NUM_THREADS"] == "1"
    assert list(previews.refusals(made, store)) == first
    assert len(asked) == 1  # not asked again
    with pytest.raises(StudyError, match=r"tiny\.toml: arms\.drop: fold: "):
        previews.check(made, store)
    (kept,) = (store.folder / "_played").iterdir()
    assert json.loads(kept.read_text()) == first


def test_an_answer_is_kept_beside_the_store(tmp_path, monkeypatch):
    """Line by line as it comes, and not asked for again; none is an answer too."""
    made, store, asked = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store"), []
    lines = [{"arm": "drop", "why": "fold: no"}, {"arm": "lora", "why": "fit: no"}]
    monkeypatch.setattr(previews, "answers", lambda *given, **more: asked.append((given, more)) or iter(lines))
    first = previews.refusals(made, store)
    assert next(first) == "arms.drop: fold: no"
    assert not (store.folder / "_played").exists()
    assert list(first) == ["arms.lora: fit: no"]
    assert list(previews.refusals(made, store)) == ["arms.drop: fold: no", "arms.lora: fit: no"]
    ((given, more),) = asked
    assert given[0] == "reducenet.play.preview"
    assert given[1] == {"chains": made.study.chains, "data": "synthetic", "own_words": []}
    assert more == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    lines.clear()
    other = plan(make(tmp_path, TINY.replace("lr = 0.05", "lr = 0.1")), device="cpu")
    assert list(previews.refusals(other, store)) == list(previews.refusals(other, store)) == []
    assert len(asked) == 2


def test_another_version_of_a_word_is_asked_about_again(tmp_path, monkeypatch):
    """So is another chain, and other images; the answer itself is not looked at here."""
    made, store, wanted = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store"), []
    key = previews.keys.key
    monkeypatch.setattr(previews.keys, "key", lambda **parts: wanted.append(key(**parts)) or wanted[-1])
    monkeypatch.setattr(previews, "answers", None)

    def asks():
        with pytest.raises(TypeError):
            list(previews.refusals(made, store))
        asked.append(wanted[-1])

    asked = []
    asks()
    for target, name in ((lock, "version"), (lock, "shared_version"), (lock, "hash_of"), (previews.sources, "fingerprint")):
        with monkeypatch.context() as patched:
            real = getattr(target, name)
            patched.setattr(target, name, lambda what, real=real: real(what) + "!")
            asks()
    made = plan(make(tmp_path, TINY.replace("lr = 0.05", "lr = 0.1")), device="cpu")
    asks()
    assert len(set(asked)) == 6


def test_several_refusals_are_counted_and_none_is_no_trouble(tmp_path, monkeypatch):
    made, store = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store")
    monkeypatch.setattr(previews, "refusals", lambda *asked: iter(["arms.a: no", "arms.b: no", "arms.c: no"]))
    with pytest.raises(StudyError, match=r"arms\.a: no \(and 2 more; `reducenet plan` lists them\)$"):
        previews.check(made, store)
    monkeypatch.setattr(previews, "refusals", lambda *asked: iter([]))
    previews.check(made, store)


def test_a_helper_that_dies_is_one_line_and_nothing_is_kept(tmp_path, monkeypatch):
    made, store = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store")
    (tmp_path / "python").write_text("#!/bin/sh\ncat > /dev/null\necho 'first\nMemoryError: no room' >&2\nexit 1\n")
    os.chmod(tmp_path / "python", 0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StudyError, match=r"tiny\.toml: its chains could not be played in miniature: MemoryError: no room"):
        list(previews.refusals(made, store))
    assert not (store.folder / "_played").exists()


def test_a_helper_that_dies_before_it_is_asked_is_one_line_too(tmp_path, monkeypatch):
    made, store = plan(make(tmp_path), device="cpu"), Store(tmp_path / "store")
    made.study.chains["plain"].append({"freeze": {"parts": ["x" * 1_000_000]}})
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    monkeypatch.setattr(previews, "words_used", lambda plan: [])
    with pytest.raises(StudyError, match=r"tiny\.toml: its chains could not be played in miniature: 1"):
        list(previews.refusals(made, store))
