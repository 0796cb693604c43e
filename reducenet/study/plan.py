"""From chains to runs. A chain is cut after every fit; chains with the same beginning share its runs, so a teacher is trained once a seed.

No one writes the graph: a run needs the run before it, its teacher's, and those that set its budget.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from reducenet import datasets
from reducenet.study import grammar, identity
from reducenet.study.vocabulary import ARMS, VOCABULARY, idle

TICKET = 1000  # tickets of seed s are the replicates s, s + 1000, s + 2000, ...


@dataclass(frozen=True)
class Run:
    """The unit of work: moves up to and including one fit (or the untrained end of a chain) in one notebook, one folder in the store."""

    key: str
    name: str  # "lora/s3": the first arm that passes here, and the seed
    notebook: Path
    parameters: dict = field(hash=False)
    needs: tuple[str, ...]  # keys
    epochs: int = 0
    exclusive: bool = False  # runs alone: it times something


@dataclass(frozen=True)
class Plan:
    study: grammar.Study
    path: Path
    runs: dict[str, Run]  # by key, every run after the runs it needs
    ends: dict[tuple[str, int], str]  # (arm, seed) -> key of the arm's last run
    latency: str  # key of the run that times the arms side by side

    @property
    def name(self) -> str:
        return self.path.stem

    def ancestry(self, key: str) -> list[str]:
        """`key` and every run it needs, each once: what an arm's ledger adds up."""
        seen: dict[str, None] = {}

        def visit(key: str) -> None:
            for other in self.runs[key].needs:
                visit(other)
            seen[key] = None

        visit(key)
        return list(seen)

    def lineage(self, key: str) -> list[str]:
        """`ancestry`, without the runs that only set a budget."""
        given, found = self.runs[key].parameters, []
        for other in (given.get("after"), given.get("teacher"), *given.get("tickets", ())):
            if other:
                found += [k for k in self.lineage(other) if k not in found]
        return [*found, key]


def plan(path: str | Path, device: str | None = None) -> Plan:
    """The runs that the study in the file asks for. `StudyError` or `DataError`, one line, where it cannot be run."""
    path = Path(path)
    study, chains = grammar.read(path)
    notebooks = {name: path.parent / f"{name}.ipynb" for name in ("fit", "latency")}
    for notebook in notebooks.values():
        if not notebook.is_file():
            raise grammar.StudyError(
                f"{notebook}: the notebook that runs a study is missing: study files live beside it, in ablations/ "
                "(`python notebooks/build.py` makes the project's own)"
            )
    common = {"data": study.data, **identity.numerics(device or study.device, study.threads)}
    torch_version = common.pop("torch")
    code = [identity.core_code(), identity.notebook_code(notebooks["fit"]), datasets.fingerprint(study.data), torch_version]
    runs: dict[str, Run] = {}
    ends: dict[tuple[str, int], str] = {}

    def end_of(arm: str, seed: int) -> str:
        """Plan arm `arm`, and before it the arms it learns from; the key of its last run."""
        if (arm, seed) in ends:
            return ends[arm, seed]
        before, stage = "", 0
        for moves in _segments(chains[arm]):
            fit, best = moves[-1].get("fit", {}), moves[0].get("best_of")
            teacher = end_of(name, seed) if (name := _teacher(arm, moves)) else ""
            budget = made.lineage(end_of(fit["cost_of"], seed)) if fit.get("cost_of") else []
            tickets = [end_of(best["arm"], seed + TICKET * i) for i in range(best["tickets"])] if best else []
            parameters = dict(moves=moves, seed=seed, stage=stage, after=before, teacher=teacher, budget=budget, tickets=tickets, **common)
            said = [_read_by_a_run(move) for move in moves]
            key = identity.key(**{**parameters, "moves": said}, code=[*code, identity.code_of(moves)])
            needs = tuple(dict.fromkeys(k for k in (before, teacher, *budget, *tickets) if k))
            if key not in runs:
                epochs = fit.get("epochs") or sum(runs[k].epochs for k in budget)
                runs[key] = Run(key, f"{arm}/s{seed}", notebooks["fit"], parameters, needs, epochs)
            before, stage = key, stage + bool(fit)
        ends[arm, seed] = before
        return before

    made = Plan(study, path, runs, ends, "")
    for seed in range(study.first_seed, study.first_seed + study.seeds):
        for arm in study.arms:
            end_of(arm, seed)
    arms = {arm: ends[arm, study.first_seed] for arm in study.arms}
    parameters = dict(arms=arms, **common)
    key = identity.key(**parameters, code=[*code, identity.notebook_code(notebooks["latency"])])
    runs[key] = Run(key, "latency", notebooks["latency"], parameters, tuple(dict.fromkeys(arms.values())), exclusive=True)
    return Plan(study, path, runs, ends, key)


def _teacher(arm: str, moves: list[dict]) -> str:
    """The arm that teaches in this run, if any."""
    names = list(dict.fromkeys(given["teacher"] for move in moves for given in move.values() if given.get("teacher")))
    if len(names) > 1:
        raise grammar.StudyError(f"arms.{arm}: one run has one teacher, not {' and '.join(names)}; put a fit between them")
    return names[0] if names else ""


def _segments(chain: list[dict]) -> list[list[dict]]:
    """The chain, cut after every fit."""
    segments: list[list[dict]] = [[]]
    for move in chain:
        segments[-1].append(move)
        if "fit" in move:
            segments.append([])
    return [segment for segment in segments if segment]


def _read_by_a_run(move: dict) -> dict:
    """The move without what changes nothing: names of arms (their keys are there) and parameters that this block or loss does not read."""
    ((name, given),) = move.items()
    usual = {key: field.default for key, field in VOCABULARY[name].model_fields.items()}  # a new parameter leaves old keys alone
    ignored = idle(name, given) | set(ARMS)
    return {name: {key: value for key, value in given.items() if key not in ignored and value != usual[key]}}


def sentence(chain: list[dict], defaults: dict[str, dict]) -> str:
    """A chain in words, the parameters that differ from the study's defaults in brackets: `build -> fit(epochs 4) -> drop_branch`."""
    words = []
    for move in chain:
        ((name, parameters),) = move.items()
        model = VOCABULARY[name]
        usual = {key: f.default for key, f in model.model_fields.items()} | defaults.get(name, {})
        shown = [f"{key} {_short(value)}" for key, value in parameters.items()
                 if value is not None and (key == "block" or key not in usual or value != usual[key])]  # fmt: skip
        words.append(f"{name}({', '.join(shown)})" if shown else name)
    return " → ".join(words)


def _short(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else json.dumps(value).strip('"')
