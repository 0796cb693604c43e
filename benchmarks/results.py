"""results.json: for every figure the rows that were measured last, with the machine and the versions they were measured with."""

import dataclasses
import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.harness import CannotRun, Row
from reducenet.store import whole

FILE = Path(__file__).with_name("results.json")


def read(file: Path = FILE) -> list[Row]:
    """The rows as recorded; none where nothing was. `CannotRun`, one line, where it cannot be read."""
    if not file.is_file():
        return []
    try:
        given = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return [Row(**{**one, "spread": tuple(one["spread"])}) for one in given]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotRun(f"{file}: cannot be read as rows ({type(error).__name__}); move it away or take it from git again") from None


def merged(kept: list[Row], name: str, rows: list[Row], order: list[str]) -> list[Row]:
    """`rows` in the place of those of figure `name`, in the order of the names; what is no figure any more goes."""
    others = [row for row in kept if row.by != name and row.by in order]
    return sorted([*others, *rows], key=lambda row: order.index(row.by))


def write(rows: list[Row], file: Path = FILE) -> None:
    """Whole or not at all."""
    with whole(file) as partial:
        text = json.dumps({"rows": [dataclasses.asdict(row) for row in rows]}, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def stamped(name: str, rows: list[Row], device: str = "cpu") -> list[Row]:
    """The rows with who measured them, where, and with what."""
    return [dataclasses.replace(row, by=name, machine=machine(device), versions=versions()) for row in rows]


def machine(device: str) -> str:
    """In words: the processor, the cores that may be used, the GPU if it is one's."""
    from reducenet.play.machine import environment
    from reducenet.study.run.drive import usable_cores

    there = environment(device)
    cores = f"{usable_cores()} cores of {there['processor']} ({there['instructions']})"
    return f"{there['device']}, {cores}" if device == "cuda" else f"{cores}, no GPU used"


def versions() -> str:
    """In words: Python and what the figures depend on."""
    found = [f"Python {'.'.join(map(str, sys.version_info[:3]))}"]
    for package in ("reducenet", "torch", "torchvision", "onnxruntime"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
