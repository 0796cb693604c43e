"""`reducenet accept`: does a change to the code change a number? Finished runs are played again, and every bit is compared.

What is played is `ablations/words.toml`, every word at two widths and by two replicates together, on every device here, and for each
changed word the cheapest finished run of the store that uses it. Equal numbers keep the version of a word, and with it all runs; other
numbers raise it, and what it costs to train again is said first. The proof is a sample: bitwise equality of these sentences on this kind of
machine, not of every input.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from reducenet.data.sources import DataError
from reducenet.store import Store, whole
from reducenet.study import key as keys
from reducenet.study.aside import answers
from reducenet.study.plan import Plan, Run, plan
from reducenet.study.read import StudyError, Untuned
from reducenet.words import KINDS, Word, added, lock, words

WIDTHS = (4, 8)
LONGEST = 60.0  # seconds: a finished run that took longer is not played again


def accept(raised: bool, folder: Path = Path("ablations")) -> int:
    """Bring the lock up to date. The exit code: 0, or 1 where a word gives other numbers and its version may not be raised."""
    start, known, where = time.monotonic(), lock.known(), machine()
    every = {lock.name_of(word): word for kind in KINDS for word in words(kind).values() if word.home.startswith("reducenet.")}
    locked = known["words"]
    changed = {name for name, word in every.items() if name in locked and locked[name]["source"] != lock.source(word)}
    changed |= {part for part, entry in known["shared"].items() if entry["source"] != lock.shared_source(part)}
    proofs = known["proofs"].get(where, {})
    if changed and not proofs:
        kinds = "; ".join(known["proofs"]) or "none"
        raise StudyError(f"{lock.FILE.name} holds no proof from a machine like this ({where}; it has: {kinds}); at a commit whose source "
                         "is the lock's, `reducenet accept` makes one")  # fmt: skip
    runs, studies = _runs(folder), list(_studies(folder))  # an ill-formed study is said here, before anything is played
    again = _replayed(_to_play(runs, changed, proofs), sorted(words("dataset")))
    played = {found["name"]: {part: found[part] for part in lock.SHARED_PARTS if part in found} for found in again}
    blame = blamed(runs, played, proofs, changed)
    for run, same in _from_store(Store(folder / "store"), studies, changed):
        print(f"{run.name}, played again from the store: {'equal' if same else 'other numbers'}")
        if not same:
            blame |= {name: [*blame.get(name, []), run.name] for name in _used(run) & changed or {"train"}}
    for name in sorted(changed):
        everybodys = name in lock.SHARED_PARTS and name != "together"
        tried = [run for run in played if everybodys or name in _used_by(run, runs)]
        if name not in blame and not tried:
            blame[name] = []
        if name in blame:
            print(
                f"{name}: "
                + (f"other numbers in {', '.join(blame[name])}" if blame[name] else "nothing here uses it, so nothing is proved")
            )
        else:
            print(f"{name}: equal in {len(tried)} runs, keeps its version")
    other = [name for name in played if played[name] != proofs.get(name, played[name])]
    if other and not changed:
        raise StudyError(f"other numbers in {', '.join(other)}, though no source has changed: another library, or another machine?")
    if blame and not raised:
        print("\n".join(_price(Store(folder / "store"), studies, set(blame))))
        print("nothing is changed; `reducenet accept --raise` raises " + ", ".join(sorted(blame)))
        return 1
    _write(known, every, set(blame), {**proofs, **played}, where, runs)
    print(f"{len(played)} runs played in {time.monotonic() - start:.0f} s ({where}); {lock.FILE.name} is up to date")
    return 0


def blamed(runs: dict[str, Run], played: dict, proofs: dict, changed: set[str]) -> dict[str, list[str]]:
    """What of the `changed` gives other numbers, and in which runs.

    A run that differs blames the changed words that it uses, where training differs, else the way of counting or measuring. Where it goes
    on from a run that differs, a word that is equal elsewhere goes free; one that is nowhere seen by itself does not.
    """
    by_key, found = {run.key: name for name, run in runs.items()}, {}
    differs = {name for name in played if name in proofs and played[name] != proofs[name]}
    follows = {name for name in differs if name in runs and differs & {by_key[key] for key in runs[name].needs}}
    clear = {word for name in played if name in proofs and name not in differs for word in _used_by(name, runs)}
    for name in sorted(differs):
        parts = {part for part in lock.SHARED_PARTS if played[name].get(part) != proofs[name].get(part)}
        guilty = (
            _used_by(name, runs) & changed or {"train"} & changed if "train" in parts else parts & changed or _used_by(name, runs) & changed
        )
        for word in guilty - (clear if name in follows else set()):
            found.setdefault(word, []).append(name)
    return found


def _used_by(name: str, runs: dict[str, Run]) -> set[str]:
    """The words that what was played under this name depends on: a run, or a data set that was read."""
    return _used(runs[name]) if name in runs else {name}


def machine() -> str:
    """What numbers depend on: the processor's instructions and how it rounds, the device types, torch's minor version."""
    imports = "from reducenet.play.machine import instructions; from reducenet.play.rounding import rounding"
    code = f"{imports}; print(instructions(), rounding())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return f"{said}, {' and '.join(_devices())}, torch {keys.numerics('cpu', 1)['torch']}"


def _devices() -> list[str]:
    return ["cpu"] + (["cuda"] if keys.device("auto") == "cuda" else [])


def _runs(folder: Path) -> dict[str, Run]:
    """The runs of `words.toml` by name, in an order in which every run comes after what it needs: "kd/s0 width 4 cpu"."""
    file = folder / "words.toml"
    plans = [(f"width {width} {device}", plan(file, device, build={"width": width})) for device in _devices() for width in WIDTHS]
    runs = {(name := f"{run.name} {how}"): replace(run, name=name) for how, made in plans for run in made.runs.values()}
    for device in _devices():  # and what is trained together, with all that it needs
        made = plan(file, device, seeds=2, together=2)
        wanted = {key for run in made.runs.values() if run.parameters["together"] for key in made.ancestry(run.key)}
        runs |= {(name := f"{run.name} by two {device}"): replace(run, name=name) for run in made.runs.values() if run.key in wanted}
    return runs


def _used(run: Run) -> set[str]:
    words = {lock.name_of(word) for word in lock.words_of(run.parameters["moves"], run.parameters["data"])}
    return words | ({"together"} if run.parameters["together"] else set())


def _to_play(runs: dict[str, Run], changed: set[str], proofs: dict) -> list[dict]:
    """The runs that use what has changed, or have no proof yet, and all that they need."""
    by_key, wanted = {run.key: run for run in runs.values()}, {}

    def take(run: Run) -> None:
        for key in run.needs:
            take(by_key[key])
        wanted.setdefault(run.key, run)

    for name, run in runs.items():
        if changed & set(lock.SHARED_PARTS) - {"together"} or name not in proofs or _used(run) & changed:
            take(run)
    return [_asked(run) for run in wanted.values()]


def _asked(run: Run, upstream: dict[str, str] | None = None) -> dict:
    return {"name": run.name, "key": run.key, "trained": run.trained, "parameters": run.parameters, "upstream": upstream or {}}


def _replayed(runs: list[dict], datasets: list[str] = ()) -> Iterator[dict]:
    """Each run's name and fingerprints, as another process plays it; those of data sets too, as far as they are here."""
    if runs or datasets:
        asked = {"runs": runs, "datasets": datasets, "own_words": added()}
        yield from answers("reducenet.play.replay", asked, "a run could not be played again")


def _studies(folder: Path) -> Iterator[Plan]:
    for file in sorted(folder.glob("*.toml")):
        with contextlib.suppress(Untuned, DataError):  # no runs before its learning rates are chosen, none without its images
            if file.stem != "words":
                yield plan(file, "cpu")


def _from_store(store: Store, studies: list[Plan], changed: set[str]) -> Iterator[tuple[Run, bool]]:
    """For each changed word the cheapest finished run of a study that uses it, and whether it gives the same network again."""
    cheapest = {}
    for made in studies:
        for run in made.runs.values():
            upstream = {made.runs[key].trained for key in run.needs}
            if run.parameters["paid_by"] or not all(store.entry(key).exists() for key in (run.trained, *upstream)):
                continue
            seconds = store.result(run.trained)["cost"]["train_seconds"]
            for name in (_used(run) | {"train"}) & changed:
                if seconds < min(LONGEST, cheapest.get(name, (LONGEST,))[0]):
                    cheapest[name] = (seconds, replace(run, name=f"{made.name} {run.name}"), upstream)
    runs = {run.key: (run, upstream) for _, run, upstream in cheapest.values()}
    asked = [_asked(run, {key: str(store.entry(key)) for key in upstream}) for run, upstream in runs.values()]
    for (run, _), found in zip(runs.values(), _replayed(asked), strict=True):
        yield run, found["network"] == store.result(run.trained)["network"]


def _price(store: Store, studies: list[Plan], trouble: set[str]) -> Iterator[str]:
    """What it costs to train again what uses these words, study by study; or to measure it again, where nothing else is to blame."""
    what = "measured" if trouble == {"measure"} else "trained"
    for made in studies:
        stale = [run for run in made.runs.values() if trouble & set(lock.SHARED_PARTS) - {"together"} or _used(run) & trouble]
        after = {key for run in stale for key in made.runs if run.key in made.ancestry(key)}
        seconds = [store.result(key)["cost"]["seconds"] for key in after if store.entry(key).exists()]
        if after:
            known = f", {sum(seconds) / 60:.0f} minutes of a core for {len(seconds)} of them" if seconds else ""
            yield f"{made.name}: {len(after)} of {len(made.runs)} runs would be {what} again{known}"


def _write(known: dict, every: dict[str, Word], raised: set[str], proofs: dict, where: str, runs: dict[str, Run]) -> None:
    """The lock as the source is now, new versions for what is raised. A word that no run and no proof knows stays out of it."""

    def entry(old: dict | None, name: str, source: str) -> dict:
        return {"version": source if old is None or name in raised else old["version"], "source": source}

    proved = set(known["words"]) | set(proofs) | {name for run in runs.values() for name in _used(run)}
    entries = {name: entry(known["words"].get(name), name, lock.source(word)) for name, word in sorted(every.items()) if name in proved}
    shared = {part: entry(known["shared"].get(part), part, lock.shared_source(part)) for part in lock.SHARED_PARTS}
    others = {machine: found for machine, found in known["proofs"].items() if machine != where and not raised}
    text = json.dumps({"shared": shared, "words": entries, "proofs": {**others, where: dict(sorted(proofs.items()))}}, indent=1)
    with whole(lock.FILE) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
