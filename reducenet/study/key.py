"""What makes two runs the same run: everything before it, its parameters, seed, data, numerics and the versions of its words."""

import hashlib
import importlib.metadata
import json
import os
from functools import cache
from pathlib import Path

from reducenet.data import sources
from reducenet.study.read import Study, StudyError
from reducenet.study.tuning.choices import with_rate
from reducenet.words import arms_named, lock, said
from reducenet.words.meaning import meaning


def key(**parts) -> str:
    """The first 16 hex digits of the SHA-256 of `parts` as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def trained(moves: list[dict], data: str, numerics: dict, *, paid_by: list[str], together: int = 1, **before) -> str:
    """The key of what a run trains: `before` holds seed, place in the chain, and the keys of the networks that it goes on from.

    With how many replicates it is trained `together` changes the order of sums: that is numerics, named where there is more than one.

    Defaults and names of arms are left out, so a new parameter, or a new name, leaves old keys alone. How multiply-adds are counted
    matters only where a cost sets the epochs, or was counted on the way.
    """
    every = lock.words_of(moves, data)
    counts = paid_by or any(word.kind in ("search", "tune") for word in every)
    versions = {lock.name_of(word): lock.version(word) for word in every} | {"train": lock.shared_version("train")}
    versions |= {"count": lock.shared_version("count")} if counts else {}
    if together > 1:
        numerics, versions = {**numerics, "together": together}, {**versions, "together": lock.shared_version("together")}
    return key(moves=[said(move, arms=False) for move in moves], data=sources.fingerprint(data), numerics=numerics, versions=versions,
               paid_by=paid_by, **before)  # fmt: skip


def measured(trained: str, notebook: Path) -> str:
    """The key of what is measured on a trained network, and shown of it."""
    versions = {part: lock.shared_version(part) for part in ("count", "measure")}
    return key(
        trained=trained, versions=versions, shown=notebook_code(notebook), look=lock.hash_of("reducenet.play.show", "reducenet.style")
    )


def timed(arms: dict[str, str], numerics: dict, notebook: Path) -> str:
    """The key of the run that times these arms side by side: arm -> key of what was trained."""
    return key(arms=arms, numerics=numerics, versions=lock.shared_version("measure"), shown=notebook_code(notebook))


def tuned(study: Study, arm: str) -> str:
    """The key of the choice of an arm's learning rate: all that it was made for, but not that rate itself, nor who made it.

    Its chain and those it learns from with the rates that were chosen for them, grid, seeds, data, versions. On which device these are
    trained is left out: a choice is not retaken for the last digits.
    """
    grid, shared = study.grid(arm), {part: lock.shared_version(part) for part in ("train", "count")}
    return key(
        chain=_meaning(study, with_rate(study.chains[arm], grid[0])), grid=grid, seeds=list(study.tune.replicates),
        data=sources.fingerprint(study.images), shared=shared,
    )  # fmt: skip


def _meaning(study: Study, chain: list[dict]) -> dict:
    """A chain as keys see it, with the versions of its words and the chains of the arms that it names."""
    named = [study.chains[other] for move in chain for _, other in arms_named(move)]
    versions = {lock.name_of(word): lock.version(word) for word in lock.words_of(chain, study.images)}
    return {"moves": [said(move, arms=False) for move in chain], "versions": versions, "named": [_meaning(study, one) for one in named]}


@cache
def notebook_code(path: Path) -> str:
    """A hash of a notebook's code cells; text, outputs and ids do not count."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: not a readable notebook ({type(error).__name__}); `python notebooks/build.py` makes it") from None
    return hashlib.sha256(meaning(source).encode()).hexdigest()[:16]


def device(asked: str) -> str:
    """The device type that "auto" stands for here, found without torch: "cuda" where there is a driver and a torch that uses it."""
    if asked == "cpu":
        return asked
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = Path("/proc/driver/nvidia/version").exists() and any(Path("/dev").glob("nvidia[0-9]*"))
    there = driver and not hidden and "+cpu" not in importlib.metadata.version("torch")
    if asked == "cuda" and not there:
        raise StudyError('device "cuda" was asked for, but there is no CUDA device here, or a torch without CUDA; use "cpu" or "auto"')
    return "cuda" if there else "cpu"


def numerics(asked_device: str, threads: int) -> dict:
    """What changes floating-point results: device type, threads, torch's minor version. Python's version does not."""
    version = importlib.metadata.version("torch").split("+")[0].rsplit(".", 1)[0]
    return {"device": device(asked_device), "threads": threads, "torch": version}
