"""From chains to runs. A chain is cut after every fit; chains with the same beginning share its runs, so a teacher is trained once a seed.

No one writes the graph: a run needs the run before it, its teacher's, and those that set its budget.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from reducenet.study import key as keys
from reducenet.study.read import TICKET, Study, StudyError, Untuned, read
from reducenet.study.together import groups, joins
from reducenet.words import Word, added, arms_named, find, lock, unknown

PROJECT = Path(__file__).parents[2] / "ablations"  # the notebooks that a study has which has none of its own
MEMBER = ("seed", "after", "teacher", "paid_by")  # what training one of several replicates together asks for


def arm_of(name: str) -> str:
    """The arm in the name of a run: `arm_of("lora@1/s3") == "lora"`."""
    return name.split("/")[0].split("@")[0]


@dataclass(frozen=True)
class Run:
    """The unit of work: moves up to and including one fit (or the untrained end of a chain), played and measured by one notebook."""

    key: str  # of what is measured
    trained: str  # of the network
    name: str  # "lora/s3": the first arm that ends here, and the seed; "lora@1/s3" where its chain goes on after its first fit
    notebook: Path
    parameters: dict = field(hash=False)
    needs: tuple[str, ...]  # keys
    epochs: int = 0
    exclusive: bool = False  # runs alone: it times something
    beside: tuple[str, ...] = ()  # keys: comes after these, and does without them where they fail

    @property
    def arm(self) -> str:
        return arm_of(self.name)

    @property
    def file(self) -> str:
        """What its executed notebook is called when it is published, without ending: "lora.s3"."""
        return self.name.replace("/", ".")


@dataclass(frozen=True)
class Plan:
    study: Study
    path: Path
    runs: dict[str, Run]  # by key, every run after the runs it needs
    ends: dict[tuple[str, int], str]  # (arm, seed) -> key of the arm's last run
    numerics: dict
    group: dict[str, dict[int, tuple[int, ...]]]  # arm -> seed -> the seeds that are trained with it, itself included
    places: dict[tuple[str, int, int], str] = field(default_factory=dict)  # (arm, number of the piece, seed) -> key
    mates: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)  # key -> the places of those trained with it, where any

    @property
    def name(self) -> str:
        return self.path.stem

    def notebook(self, name: str) -> Path:
        """The notebook "fit", that plays a run, or "latency": beside the study file, or else the project's own."""
        for folder in (self.path.parent, PROJECT):
            if (folder / f"{name}.ipynb").is_file():
                return folder / f"{name}.ipynb"
        raise StudyError(f"{self.path.parent / name}.ipynb: the notebook that runs a study is missing: none is here, none in the project's "
                         "ablations/ (`python notebooks/build.py` makes it there)")  # fmt: skip

    def beside(self, arm: str, seed: int) -> list[int]:
        """The seeds of an arm that are trained together with this one, itself included; tickets go with the tickets of the same number."""
        further = next(seed - own for own in self.group[arm] if (seed - own) % TICKET == 0 and seed >= own)
        return [other + further for other in self.group[arm][seed - further]]

    def called(self, name: str) -> Run:
        """The run of this name, as `plan` and `status` say it: "lora/s3"."""
        for run in self.runs.values():
            if run.name == name:
                return run
        raise StudyError(f"{self.path}: {unknown('run', name, [run.name for run in self.runs.values()])}")

    def ancestry(self, key: str) -> list[str]:
        """`key` and every run it needs, each once."""
        seen: dict[str, None] = {}

        def visit(key: str) -> None:
            for other in self.runs[key].needs:
                visit(other)
            seen[key] = None

        visit(key)
        return list(seen)

    def lineage(self, key: str) -> list[str]:
        """`ancestry` without the runs that only set a budget: what an arm's ledger adds up. What it goes on or learns from is no less its
        cost for having set the budget too."""
        given = self.runs[key].parameters
        used = {given["after"], given["teacher"], *given["tickets"]}
        found: dict[str, None] = {}
        for other in self.runs[key].needs:
            if other not in given["paid_by"] or self.runs[other].trained in used:
                found |= dict.fromkeys(self.lineage(other))
        return [*found, key]

    def timing(self, arms: Iterable[str]) -> Run:
        """The run that times these arms, seed by the first, side by side."""
        ends = {arm: self.runs[self.ends[arm, self.study.first_seed]] for arm in arms}
        notebook = self.notebook("latency")
        trained = {arm: run.trained for arm, run in ends.items()}
        key = keys.timed(trained, self.numerics, notebook)
        parameters = dict(arms=trained, data=self.study.images, device=self.numerics["device"], threads=self.numerics["threads"],
                          own_words=added())  # fmt: skip
        return Run(key, "", "latency", notebook, parameters, tuple(dict.fromkeys(run.key for run in ends.values())), exclusive=True)


def plan(path: str | Path, device: str | None = None, build: dict | None = None, **instead) -> Plan:
    """The runs that the study in the file asks for, with other defaults of `build`, and other values `instead` of its own, if need be.
    `StudyError` or `DataError`, one line, where it cannot be run."""
    path = Path(path)
    study = read(path, build, **instead)
    if untuned := [arm for arm in study.tuned if arm not in study.choices or study.choices[arm].of != keys.tuned(study, arm)]:
        more = f" and {len(untuned) - 3} more" if len(untuned) > 3 else ""
        raise Untuned(f"{path}: as the study is now, no learning rate is chosen for {', '.join(untuned[:3])}{more}; "
                      f"`reducenet tune {study.command}` comes first")  # fmt: skip
    return planned(path, study, device)


def planned(path: Path, study: Study, device: str | None = None) -> Plan:
    """The runs of a study as it stands, its notebooks beside `path`."""
    numerics = keys.numerics(device or study.device, study.threads)
    made = Plan(study, path, {}, {}, numerics, {arm: groups(study, numerics["device"], arm) for arm in study.arms})
    made.notebook("latency")
    for seed in study.replicates:
        for arm in study.arms:
            _end_of(made, arm, seed)
    _link(made)
    return made


def _end_of(made: Plan, arm: str, seed: int) -> str:
    """Plan arm `arm`, and before it the arms it learns from; the key of its last run."""
    if (arm, seed) in made.ends:
        return made.ends[arm, seed]
    notebook, before, nth_fit = made.notebook("fit"), None, 0
    segments = _segments(made.study.chains[arm])
    for number, moves in enumerate(segments, 1):
        with_it = made.beside(arm, seed) if joins(segments[:number]) else [seed]
        teacher, paid_by, tickets = _upstream(made, arm, seed, moves)
        after, teaches = (run.trained if run else "" for run in (before, teacher))
        drawn = [made.runs[key].trained for key in tickets]
        trained = keys.trained(moves, made.study.images, made.numerics, seed=seed, nth_fit=nth_fit, after=after, teacher=teaches,
                               tickets=drawn, paid_by=[made.runs[key].trained for key in paid_by], together=len(with_it))  # fmt: skip
        key = keys.measured(trained, notebook)
        if key not in made.runs:
            where = dict(data=made.study.images, device=made.numerics["device"], threads=made.numerics["threads"], own_words=added())
            parameters = dict(
                moves=moves, seed=seed, nth_fit=nth_fit, after=after, teacher=teaches, paid_by=paid_by, tickets=drawn,
                together=[], **where,
            )  # fmt: skip
            upstream = [run.key for run in (before, teacher) if run]
            needs = tuple(dict.fromkeys([*upstream, *paid_by, *tickets]))
            fit = moves[-1].get("fit", {})
            epochs = fit.get("epochs") or sum(made.runs[k].epochs for k in paid_by)
            name = f"{arm}/s{seed}" if number == len(segments) else f"{arm}@{number}/s{seed}"
            made.runs[key] = Run(key, trained, name, notebook, parameters, needs, epochs)
            if len(with_it) > 1:
                made.mates[key] = [(arm, number, other) for other in with_it]
        made.places[arm, number, seed] = key
        before, nth_fit = made.runs[key], nth_fit + ("fit" in moves[-1])
    made.ends[arm, seed] = before.key
    return before.key


def _link(made: Plan) -> None:
    """Tell every run that is trained together with others who they are. The first trains them all, so it stands behind what the others
    need, and they behind it; every run behind all that it needs."""
    for key, places in made.mates.items():
        run, members = made.runs[key], [made.runs[made.places[place]] for place in places]
        told = [{"trained": one.trained, **{name: one.parameters[name] for name in MEMBER}} for one in members]
        beside = [need for one in members for need in one.needs] if key == members[0].key else [members[0].key]
        beside = tuple(dict.fromkeys(other for other in beside if other not in run.needs))
        made.runs[key] = replace(run, parameters={**run.parameters, "together": told}, beside=beside)
    inserted, ordered = list(made.runs), {}

    def take(key: str) -> None:
        if key not in ordered:
            for other in (*made.runs[key].needs, *made.runs[key].beside):
                take(other)
            ordered[key] = made.runs[key]

    for key in inserted:
        take(key)
    made.runs.clear()
    made.runs.update(ordered)


def _upstream(made: Plan, arm: str, seed: int, moves: list[dict]) -> tuple[Run | None, list[str], list[str]]:
    """The run that teaches in this piece, the keys of those that pay for it, and of the replicates that it chooses between."""
    teachers, paid_by, tickets = [], [], []
    for move in moves:
        ((name, given),) = move.items()
        for parameter, other in arms_named(move):
            if find("sentence", name).kind == "choice":
                tickets = [_end_of(made, other, seed + TICKET * i) for i in range(given["tickets"])]
            elif parameter == "cost_of":
                paid_by = made.lineage(_end_of(made, other, seed))
            else:
                teachers.append(other)
    teachers = list(dict.fromkeys(teachers))
    if len(teachers) > 1:
        raise StudyError(f"{made.path}: arms.{arm}: one run has one teacher, not {' and '.join(teachers)}; put a fit between them")
    return made.runs[_end_of(made, teachers[0], seed)] if teachers else None, paid_by, tickets


def _segments(chain: list[dict]) -> list[list[dict]]:
    """The chain, cut after every fit."""
    segments: list[list[dict]] = [[]]
    for move in chain:
        segments[-1].append(move)
        if "fit" in move:
            segments.append([])
    return [segment for segment in segments if segment]


def words_used(plan: Plan) -> list[Word]:
    """Every word that the plan uses, each once."""
    chains = plan.study.chains.values()
    return list({lock.name_of(word): word for chain in chains for word in lock.words_of(chain, plan.study.images)}.values())
