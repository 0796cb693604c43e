"""The store: one folder a run, named by its key, published by one atomic rename. A run succeeded if, and only if, it has a `result.json`.

store/<key>/            what was trained: result.json (written last)  net.safetensors  curves.csv
store/<key>/            what was measured: result.json (written last)  run.ipynb  correct.npy
store/.tmp-<key>-<pid>  being written; never read
store/_answers/<key>/   what a teacher answered: a cache, swept away when nobody asks any more
store/_failed/<key>/    the last failed try, kept to be looked at: error.json  run.ipynb
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

SCHEMA = 2
FILES = {"trained": ("net.safetensors",), "measured": ("correct.npy", "run.ipynb"), "timed": ("run.ipynb",)}  # what each kind must have


class StoreError(ValueError):
    """An entry of the store is damaged; one line that names the file and what to do."""


class Store:
    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()

    def entry(self, key: str) -> Path:
        return self.folder / key

    def failed(self, key: str) -> Path:
        return self.folder / "_failed" / key

    def answers(self, teacher: str) -> Path:
        """Where the answers of a trained network lie while there is somebody who asks for them."""
        return self.folder / "_answers" / teacher

    def result(self, key: str) -> dict | None:
        """What the run recorded, its files checked against their checksums; None where it has not been run."""
        file = self.entry(key) / "result.json"
        if not self.entry(key).exists():
            return None
        cure = f"move {self.entry(key)} away and run the study again"
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            outputs, status = dict(result["outputs"]), result["status"]
        except (OSError, ValueError, KeyError, TypeError):
            raise StoreError(f"{file}: damaged store entry, no readable result; {cure}") from None
        if result.get("key") != key or result.get("schema") != SCHEMA:
            raise StoreError(f"{file}: damaged store entry, it is for key {result.get('key')!r}, schema {result.get('schema')!r}; {cure}")
        needed = FILES.get(result.get("kind"), ("net.safetensors",)) if status != "diverged" else ()
        missing = [name for name in needed if name not in outputs and not (name == "run.ipynb" and file.with_name(name).is_file())]
        if status not in ("ok", "diverged") or missing:
            raise StoreError(f"{file}: damaged store entry, status {status!r} without {' or '.join(missing or needed)}; {cure}")
        for name, digest in outputs.items():
            if checksum(file.with_name(name)) != digest:
                raise StoreError(f"{file.with_name(name)}: damaged store entry, its checksum differs from result.json's; {cure}")
        return result

    def failure(self, key: str) -> dict | None:
        """The last failed try of the run, or None."""
        file = self.failed(key) / "error.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def begin(self, key: str) -> Path:
        """A fresh folder to write the run into; its name says who writes."""
        folder = self.folder / f".tmp-{key}-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def forget_answers(self, teachers: set[str]) -> None:
        """Sweep away what these teachers answered."""
        for teacher in teachers:
            shutil.rmtree(self.answers(teacher), ignore_errors=True)

    def publish(self, key: str, folder: Path) -> None:
        """`folder` becomes the entry of `key` at once. Where another process was first, its entry stays and ours goes."""
        try:
            os.rename(folder, self.entry(key))
        except OSError:
            if not self.entry(key).exists():
                raise
            shutil.rmtree(folder)
        shutil.rmtree(self.failed(key), ignore_errors=True)

    def reject(self, key: str, folder: Path, error: dict) -> None:
        """`folder` becomes the failed try of `key`."""
        (folder / "error.json").write_text(json.dumps(error, indent=1), encoding="utf-8")
        shutil.rmtree(self.failed(key), ignore_errors=True)
        self.failed(key).parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, self.failed(key))

    def note_failure(self, key: str, error: dict) -> None:
        """Record a failure of which nothing but the news is left, as when a process was killed."""
        self.failed(key).mkdir(parents=True, exist_ok=True)
        (self.failed(key) / "error.json").write_text(json.dumps({"key": key, **error}, indent=1), encoding="utf-8")

    def running(self) -> set[str]:
        """The keys being written now, by any process; what dead processes left behind is swept away."""
        alive = set()
        for folder in self.folder.glob(".tmp-*-*"):
            key, pid = folder.name.removeprefix(".tmp-").rsplit("-", 1)
            if _lives(int(pid)):
                alive.add(key)
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return alive


def write_result(folder: str | Path, result: dict) -> None:
    """Finish a run: the checksums of all files in `folder` but the notebook, then `result.json`, whole or not at all."""
    folder = Path(folder)
    outputs = {file.name: checksum(file) for file in sorted(folder.iterdir()) if file.suffix != ".ipynb" and file.name[0] != "."}
    text = json.dumps({"schema": SCHEMA, **result, "outputs": outputs}, indent=1, sort_keys=True)
    with whole(folder / "result.json") as partial:
        partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """`with whole(path) as partial: ...` writes `partial`; `path` is there at once and whole, on the disk itself, or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def checksum(file: Path) -> str | None:
    """SHA-256 of the file, None where it cannot be read."""
    with contextlib.suppress(OSError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
