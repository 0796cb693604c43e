import hashlib
import json
import os

import pytest

from reducenet.store import SCHEMA, Store, StoreError, checksum, write_result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


FILES = {"trained": "net.safetensors", "measured": "correct.npy"}


def finish(store, key, kind="trained", **more):
    """A run, written but not published: a network, or what was measured on one and the notebook that shows it."""
    folder = store.begin(key)
    (folder / FILES[kind]).write_bytes(b"weights")
    if kind == "measured":
        (folder / "run.ipynb").write_text("{}")
    write_result(folder, {"kind": kind, "key": key, "status": "ok", **more})
    return folder


def test_publish_makes_a_whole_entry_at_once(store):
    folder = finish(store, "abc", "measured", metrics={"x": 1})
    assert store.result("abc") is None  # not published yet, and not read from the folder being written
    assert store.running() == {"abc"}
    store.publish("abc", folder)
    assert store.result("abc")["metrics"] == {"x": 1}
    assert store.running() == set()
    assert list(store.result("abc")["outputs"]) == ["correct.npy"]  # the notebook is still being written when this is
    assert store.result("abc")["outputs"]["correct.npy"] == hashlib.sha256(b"weights").hexdigest()


def test_what_was_trained_and_what_was_measured_are_entries_of_their_own(store):
    store.publish("net", finish(store, "net"))
    store.publish("abc", finish(store, "abc", "measured", trained="net"))
    assert [store.result(key)["kind"] for key in ("net", "abc")] == ["trained", "measured"]
    assert sorted(file.name for file in store.entry("net").iterdir()) == ["net.safetensors", "result.json"]


def test_a_result_is_on_the_disk_before_it_has_its_name(store, monkeypatch):
    """Else a power cut could leave a name with nothing behind it."""
    happened, fsync, replace = [], os.fsync, os.replace

    def synced(handle):
        happened.append(("fsync", os.readlink(f"/proc/self/fd/{handle}"), os.fstat(handle).st_size))
        fsync(handle)

    def replaced(source, target, **more):
        happened.append(("replace", str(source), str(target)))
        replace(source, target, **more)

    folder = store.begin("abc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_result(folder, {"kind": "timed", "key": "abc", "status": "ok"})
    (first, partial, size), (second, source, target) = happened
    assert (first, second) == ("fsync", "replace")
    assert partial == source != target == str(folder / "result.json")
    assert size == (folder / "result.json").stat().st_size > 0
    assert [file.name for file in folder.iterdir()] == ["result.json"]


def test_a_result_that_cannot_be_written_leaves_nothing(store, monkeypatch):
    folder = store.begin("abc")
    monkeypatch.setattr(os, "fsync", lambda handle: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_result(folder, {"key": "abc", "status": "ok"})
    assert not list(folder.glob("*.json"))


def test_an_entry_appears_by_one_rename(store, monkeypatch):
    folder, renamed, rename = finish(store, "abc"), [], os.rename
    monkeypatch.setattr(os, "rename", lambda source, target: renamed.append((str(source), str(target))) or rename(source, target))
    store.publish("abc", folder)
    assert renamed == [(str(folder), str(store.folder / "abc"))]


def test_the_second_writer_of_a_key_gives_way(store):
    first = finish(store, "abc", who="first")
    second = store.folder / ".tmp-abc-1"
    first.rename(second)
    store.publish("abc", finish(store, "abc", who="second"))
    store.publish("abc", second)
    assert store.result("abc")["who"] == "second"
    assert not second.exists()


def test_a_folder_that_cannot_be_published_is_an_error(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        store.publish("abc", tmp_path / "none")


def test_a_run_that_begins_again_begins_afresh(store):
    (store.begin("abc") / "left.txt").write_text("from before")
    folder = store.begin("abc")
    assert list(folder.iterdir()) == []
    assert folder.name == f".tmp-abc-{os.getpid()}"
    assert folder.parent == store.folder


def rewritten(**fields):
    """Damage: the result says something else."""

    def damage(entry):
        file = entry / "result.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return damage


def removed(name):
    return lambda entry: (entry / name).unlink()


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        ("trained", lambda entry: (entry / "result.json").write_text("{ half"), "result.json: damaged store entry, no readable result"),
        ("trained", removed("result.json"), "result.json: damaged store entry, no readable result"),
        ("trained", lambda entry: (entry / "net.safetensors").write_bytes(b"weight"), "net.safetensors: damaged store entry, its checksum"),
        ("trained", removed("net.safetensors"), "net.safetensors: damaged store entry, its checksum differs"),
        ("trained", rewritten(key="other"), "it is for key 'other'"),
        ("trained", rewritten(schema=SCHEMA - 1), f"schema {SCHEMA - 1}"),
        ("trained", rewritten(outputs={}), "status 'ok' without net.safetensors"),
        ("trained", rewritten(outputs=[]), "status 'ok' without net.safetensors"),
        ("trained", rewritten(outputs=7), "no readable result"),
        ("trained", rewritten(status="fine"), "status 'fine' without net.safetensors"),
        ("measured", removed("correct.npy"), "correct.npy: damaged store entry, its checksum differs"),
        ("measured", rewritten(outputs={}), "status 'ok' without correct.npy"),
        ("measured", removed("run.ipynb"), "status 'ok' without run.ipynb"),
        ("measured", lambda entry: (entry / "correct.npy").write_bytes(b""), "correct.npy: damaged store entry, its checksum"),
    ],
)
def test_damage_is_named_with_its_cure_and_nothing_is_deleted(store, kind, damage, message):
    store.publish("abc", finish(store, "abc", kind))
    damage(store.entry("abc"))
    with pytest.raises(StoreError) as error:
        store.result("abc")
    text = str(error.value)
    assert message in text
    assert "\n" not in text
    assert f"move {store.entry('abc')} away" in text
    assert store.entry("abc").is_dir()


def test_a_training_that_diverged_needs_no_network(store):
    folder = store.begin("abc")
    write_result(folder, {"kind": "trained", "key": "abc", "status": "diverged"})
    store.publish("abc", folder)
    assert store.result("abc")["status"] == "diverged"


def test_failed_tries_are_kept_and_forgotten_after_success(store):
    for message in ("first", "no"):
        folder = store.begin("abc")
        (folder / "run.ipynb").write_text("trace")
        store.reject("abc", folder, {"type": "MoveError", "message": message})
    assert store.result("abc") is None
    assert store.failure("abc") == {"type": "MoveError", "message": "no"}
    assert (store.failed("abc") / "run.ipynb").read_text() == "trace"
    assert store.failure("def") is None
    store.note_failure("def", {"type": "KilledWorker", "message": "once"})
    store.note_failure("def", {"type": "KilledWorker", "message": "again"})
    assert store.failure("def") == {"key": "def", "type": "KilledWorker", "message": "again"}
    store.publish("abc", finish(store, "abc"))
    assert store.failure("abc") is None
    assert store.failure("def") is not None


def test_what_dead_processes_left_is_swept_away_and_the_living_are_not(store):
    mine = store.begin("abc")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    dead = store.folder / f".tmp-def-{pid}"
    dead.mkdir()
    root = store.folder / ".tmp-by-hand-ghi-1"  # a key with dashes, of a process that may be another user's
    root.mkdir()
    assert store.running() == {"abc", "by-hand-ghi"}
    assert mine.is_dir()
    assert not dead.exists()


def test_a_checksum_is_sha_256_and_nothing_for_what_is_not_there(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert checksum(tmp_path / "file") == hashlib.sha256(b"x" * 100).hexdigest()
    assert checksum(tmp_path / "none") is None
