"""What is too much for a browser is measured beforehand and kept beside its panel, under a name that follows from what was measured."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from torch import Tensor


def digest(tensors: Iterable[Tensor]) -> str:
    """Names a record: the weights, and every image that has to do with it."""
    return hashlib.sha256(b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()[:16]


@cache
def read(file: Path) -> dict:
    """All records in the file, by name; none where there is no file."""
    return json.loads(file.read_text()) if file.exists() else {}


def write(file: Path, records: dict) -> None:
    """A line a record, so that a diff says which is another one."""
    lines = (f"{json.dumps(name)}: {json.dumps(record, separators=(',', ':'))}" for name, record in records.items())
    file.write_text("{" + ",\n".join(lines) + "}\n")
    print(file, f"{file.stat().st_size / 1e3:.1f} kB")
