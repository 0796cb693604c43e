"""Runs played again, to see whether a change to the code changed a number.

`python -m reducenet.play.replay` reads runs from standard input, and prints a line of JSON with the fingerprints of each, as it ends.
"""

import hashlib
import json
import sys
import tempfile
from contextlib import suppress

from reducenet import words
from reducenet.data.sources import DataError
from reducenet.data.tensors import Data, load
from reducenet.play.piece import play_piece
from reducenet.store import Store


def _tensors(data: Data) -> str:
    """8 hex digits of all images and labels, and of how they are normalised and cropped."""
    found = hashlib.sha256(repr((data.classes, data.pad, data.mean.tolist(), data.std.tolist())).encode())
    for tensor in (*data.train, *data.val, *data.test):
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:8]


def main() -> None:
    asked = json.load(sys.stdin)
    for file in asked["own_words"]:
        words.add(file)
    for name in asked["datasets"]:
        with suppress(DataError):  # its files are not here
            print(json.dumps({"name": f"dataset {name}", "train": _tensors(load(name))}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        for run in asked["runs"]:
            for key, entry in run["upstream"].items():  # finished elsewhere: what this run goes on from
                if not store.entry(key).exists():
                    store.entry(key).symlink_to(entry)
            out = store.begin(run["key"])
            piece = play_piece(**run["parameters"], store=folder, out=str(out), key=run["key"], trained=run["trained"])
            (out / "run.ipynb").write_text("{}")
            store.publish(run["key"], out)
            print(json.dumps({"name": run["name"], "network": piece.trained["network"], **piece.measured["fingerprints"]}), flush=True)


if __name__ == "__main__":
    main()
