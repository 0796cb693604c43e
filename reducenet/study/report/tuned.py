"""How the learning rates of a study were chosen: one table and one paragraph, made from the choices beside the study. All is Markdown."""

import math

from reducenet.study.report.prose import Report, joined
from reducenet.study.tuning.choices import Choice
from reducenet.study.tuning.choose import tuning_macs


def rows(report: Report) -> list[dict]:
    """An arm each: the rates that were tried with their mean validation accuracy, the chosen one in bold, and what all choosing on the way
    to the arm has cost, over the baseline's training. None for what nothing was tuned for."""
    study, base = report.study, report.ledger[report.baseline]
    spent = {arm: tuning_macs(study, arm) for arm in study.arms}
    return [dict(name=report.names[arm], tried=_tried(study.choices[arm]) if arm in study.choices else "", cost=f"{macs / base:.2f}")
            for arm, macs in spent.items() if macs]  # fmt: skip


def sentence(report: Report) -> str:
    """The rule, and whom it took where; empty for a study that does not tune."""
    study, chosen = report.study, report.study.choices
    if not study.tune:
        return ""
    found = {
        "Widened beyond the grid, since the best rate was at its edge: {}.": [
            arm for arm, choice in chosen.items() if len(choice.tried) > len(study.grid(arm))
        ],
        "Best at the edge of what was tried, so that a better rate may lie beyond: {}.": [
            arm for arm, choice in chosen.items() if choice.at_edge and not _diverged(choice)
        ],
        "Diverged at every rate: {}.": [arm for arm, choice in chosen.items() if _diverged(choice)],
        "With the rate that the study says: {}.": [
            name for name, arm in study.arms.items() if arm.last_fit is not None and name not in study.tuned
        ],
        "Not chosen yet: {}.": [arm for arm in study.tuned if arm not in chosen],
    }
    seeds = joined([str(seed) for seed in study.tune.replicates])
    rule = (f"The learning rate of each arm's last fit is, of those that were tried, the one with the best mean validation accuracy over "
            f"seed{'s' * (study.tune.seeds > 1)} {seeds}, which no result uses; one that diverged comes last, of equal ones the smallest "
            "first. Test images play no part.")  # fmt: skip
    return " ".join([rule, *(said.format(joined([report.names[arm] for arm in arms])) for said, arms in found.items() if arms)])


def _tried(choice: Choice) -> str:
    """`0.1: 80.50 · **0.2: 81.25** · 0.4: diverged`."""
    shown = {variant.lr: f"{variant.lr:g}: " + ("diverged" if variant.mean == -math.inf else f"{100 * variant.mean:.2f}")
             for variant in choice.tried}  # fmt: skip
    return " · ".join(f"**{said}**" if lr == choice.lr else said for lr, said in shown.items())


def _diverged(choice: Choice) -> bool:
    return all(variant.mean == -math.inf for variant in choice.tried)
