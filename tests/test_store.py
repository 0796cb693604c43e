import json
import os

import pytest

from reducenet.study.store import Store, StoreError, write_result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def finish(store, key, **more):
    folder = store.begin(key)
    (folder / "net.safetensors").write_bytes(b"weights")
    (folder / "run.ipynb").write_text("{}")
    write_result(folder, {"key": key, "status": "ok", **more})
    return folder


def test_publish_makes_a_whole_entry_at_once(store):
    folder = finish(store, "abc", metrics={"x": 1})
    assert store.result("abc") is None  # not published yet, and not read from the folder being written
    assert store.running() == {"abc"}
    store.publish("abc", folder)
    assert store.result("abc")["metrics"] == {"x": 1}
    assert store.running() == set()
    assert list(store.result("abc")["outputs"]) == ["net.safetensors"]  # the notebook is still being written when this is


def test_the_second_writer_of_a_key_gives_way(store):
    first = finish(store, "abc", who="first")
    second = store.folder / ".tmp-abc-1"
    first.rename(second)
    store.publish("abc", finish(store, "abc", who="second"))
    store.publish("abc", second)
    assert store.result("abc")["who"] == "second"
    assert not second.exists()


def rewritten(**fields):
    """Damage: the result says something else."""

    def damage(entry):
        file = entry / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda entry: (entry / "result.json").write_text("{ half"), "result.json: damaged store entry, no readable result"),
        (lambda entry: (entry / "result.json").unlink(), "result.json: damaged store entry"),
        (lambda entry: (entry / "net.safetensors").write_bytes(b"weight"), "net.safetensors: damaged store entry, its checksum differs"),
        (lambda entry: (entry / "net.safetensors").unlink(), "net.safetensors: damaged"),
        (rewritten(key="other"), "for key 'other'"),
        (rewritten(outputs={}), "without its network"),
        (rewritten(outputs=[]), "without its network"),
        (rewritten(outputs=7), "no readable result"),
        (rewritten(status="fine"), "without its network"),
        (lambda entry: (entry / "run.ipynb").unlink(), "without its network or notebook"),
    ],
)
def test_damage_is_named_with_its_cure_and_nothing_is_deleted(store, damage, message):
    store.publish("abc", finish(store, "abc"))
    damage(store.entry("abc"))
    with pytest.raises(StoreError) as error:
        store.result("abc")
    text = str(error.value)
    assert message in text
    assert "\n" not in text
    assert f"move {store.entry('abc')} away" in text
    assert store.entry("abc").is_dir()


def test_failed_tries_are_kept_and_forgotten_after_success(store):
    folder = store.begin("abc")
    (folder / "run.ipynb").write_text("trace")
    store.reject("abc", folder, {"type": "MoveError", "message": "no"})
    assert store.result("abc") is None
    assert store.failure("abc")["type"] == "MoveError"
    assert (store.failed("abc") / "run.ipynb").read_text() == "trace"
    store.publish("abc", finish(store, "abc"))
    assert store.failure("abc") is None


def test_what_dead_processes_left_is_swept_away_and_the_living_are_not(store):
    mine = store.begin("abc")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    dead = store.folder / f".tmp-def-{pid}"
    dead.mkdir()
    assert store.running() == {"abc"}
    assert mine.is_dir()
    assert not dead.exists()
