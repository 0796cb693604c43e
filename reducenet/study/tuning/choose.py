"""Choose the learning rate of every arm before the study runs. Every rate makes a variant of the arm, played by ordinary runs: in the same
store, under the same keys, each once.

An arm is tuned when all that it stands on has been: a teacher before its students. Only the last fit of its own chain varies.
"""

from pathlib import Path

from reducenet.store import Store
from reducenet.study import key as keys
from reducenet.study import preview
from reducenet.study.plan import Plan, planned, words_used
from reducenet.study.read import Study, StudyError, read
from reducenet.study.run.drive import drive
from reducenet.study.tuning.choices import WIDER, Choice, Variant, best, beyond, with_rate, write_choices
from reducenet.words import arms_named, lock

BUDGET = ("cost_of",)  # what sets a budget is no cost of the arm that has it


def tune(path: Path, store: Store, device: str | None = None, workers: int | None = None, serial: bool = False,
         **instead) -> tuple[dict[str, Choice], list[dict]]:  # fmt: skip
    """The choice for every tuned arm, written beside the study, and no trouble; or those made so far, and the runs that failed.

    Choices that belong to the study as it is are kept; variants that the store has are not trained again.
    Raises `StudyError` for a study that does not tune.
    """
    study = read(path, **instead)
    if not study.tune:
        raise StudyError(f"{path}: tunes nothing, its learning rates are what it says; say [tune] and the rates to try")
    _check(path, study, store, device)
    before, choices, rates = study.choices, {}, {arm: study.grid(arm) for arm in study.tuned}
    while left := [arm for arm in study.tuned if arm not in choices]:
        study = study.chosen(choices)
        ready = [arm for arm in left if not study.stands_on(arm) & set(left)]
        if kept := {arm: before[arm] for arm in ready if arm in before and before[arm].of == keys.tuned(study, arm)}:
            choices |= kept
            continue
        made = _variants(path, study, {arm: rates[arm] for arm in ready}, device)
        states = drive(made, store, workers, serial, only=[run.name for run in made.runs.values()])
        if any(state["state"] == "failed" for state in states.values()):
            return choices, [state for state in states.values() if state["state"] in ("failed", "blocked")]
        for arm in ready:
            tried = [_variant(made, store, study, arm, rate) for rate in rates[arm]]
            wider = beyond(tried)
            if wider is not None and len(tried) < len(study.grid(arm)) + WIDER:
                rates[arm] = sorted([*rates[arm], wider])
                continue
            spent = _spent(path, study, rates, arm, device, store)
            choices[arm] = Choice(of=keys.tuned(study, arm), lr=best(tried), tried=tried, train_macs=spent)
    choices = {arm: choices[arm] for arm in study.tuned}
    write_choices(path, choices)
    return choices, []


def tuning_macs(study: Study, arm: str) -> int:
    """What choosing has cost on the way to an arm: the variants for its own rate, and for those of the arms that it goes on or learns from.

    Variants that two choices share, where one does not stand on the other, count in both.
    """
    on_the_way = {arm, *study.stands_on(arm, but=BUDGET)}
    return sum(choice.train_macs for name, choice in study.choices.items() if name in on_the_way)


def _check(path: Path, study: Study, store: Store, device: str | None) -> None:
    """What is checked before anything trains: every chain in miniature, with the rates of the study's defaults."""
    as_said = planned(path, study, device)
    lock.check(words_used(as_said))
    preview.check(as_said, store)


def _variants(path: Path, study: Study, rates: dict[str, list[float]], device: str | None, beside: tuple[str, ...] = ()) -> Plan:
    """Every rate of these arms as an arm of its own, "plain:0.1", with the arms that they name, and those `beside`; on the seeds to choose
    with."""
    own = {_name(arm, rate): with_rate(study.chains[arm], rate) for arm, tried in rates.items() for rate in tried}
    named = {arm: study.chains[arm] for arm in beside}
    todo = [*own.values(), *named.values()]
    for chain in todo:
        new = {other: study.chains[other] for move in chain for _, other in arms_named(move) if other not in named}
        named |= new
        todo += new.values()
    said = dict(title=f"learning rates for: {study.title}", seeds=study.tune.seeds, first_seed=study.tune.first_seed)
    return planned(path, study.of(named | own, **said), device)


def _name(arm: str, rate: float) -> str:
    """No arm of a study file is called like this."""
    return f"{arm}:{rate}"


def _variant(made: Plan, store: Store, study: Study, arm: str, rate: float) -> Variant:
    """What became of one rate on the validation images; a seed whose budget nobody could set, since that diverged, has no number either."""
    results = {str(seed): store.result(made.ends[_name(arm, rate), seed]) for seed in study.tune.replicates}
    found = {seed: result["metrics"]["val_accuracy"] if result and result["status"] == "ok" else None for seed, result in results.items()}
    return Variant(lr=rate, accuracy=found)


def _spent(path: Path, study: Study, rates: dict[str, list[float]], arm: str, device: str | None, store: Store) -> int:
    """Multiply-adds of all that was trained for the choice of this arm, every run once, without what other choices have paid for."""
    paid = tuple(name for name in study.tuned if name in study.stands_on(arm, but=BUDGET))
    made = _variants(path, study, {arm: rates[arm]}, device, beside=paid)

    def runs(names: list[str]) -> set[str]:
        return {key for name in names for seed in study.tune.replicates for key in made.lineage(made.ends[name, seed])}

    own = runs([_name(arm, rate) for rate in rates[arm]]) - runs(list(paid))
    return sum(result["cost"]["train_macs"] for key in own if (result := store.result(key)))
