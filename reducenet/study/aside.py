"""What needs torch is asked of another process, one question and answers line by line, so that nothing here has to import it."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from reducenet.study.read import StudyError


def answers(module: str, question: dict, trouble: str, **environment: str) -> Iterator[dict]:
    """What `python -m MODULE` prints, a line of JSON each, as it comes. `StudyError`, `trouble` and its last words, where it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
                                   env=os.environ | environment)  # fmt: skip
        with process:
            with contextlib.suppress(BrokenPipeError), process.stdin:  # it may die at once; its last words are read below
                json.dump(question, process.stdin)
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            said.seek(0)
            raise StudyError(f"{trouble}: {(said.read().strip().splitlines() or [process.returncode])[-1]}")
