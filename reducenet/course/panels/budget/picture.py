"""The picture that stands beside the panel, for hosts without scripts."""

import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter

from reducenet.course.figures import png
from reducenet.style import BLUE, GREEN, GREY, ORANGE, drawing


def bought(arms: list[dict], cost: float = float("inf"), macs: float = float("inf")) -> dict | None:
    """The arm with the best mean validation accuracy within both budgets; of equals the cheaper one."""
    inside = [arm for arm in arms if arm["cost"] <= cost and arm["macs"] <= macs]
    return max(inside, key=lambda arm: (arm["chosen"], -arm["cost"])) if inside else None


def front(arms: list[dict]) -> list[dict]:
    """The arms that some training budget buys, the cheapest first."""
    best = [bought(arms, cost=cost) for cost in sorted({arm["cost"] for arm in arms})]
    return list({id(arm): arm for arm in best}.values())


def drawn(given: dict) -> tuple[bytes, str]:
    """A PNG and what it says: test accuracy of every arm against its training cost, what each budget buys, and what tickets buy."""
    arms = [arm for arm in given["arms"] if given["start"] in (given["studies"][0], *arm["studies"])]
    tickets, steps = given["tickets"], front(arms)
    with drawing():
        figure, axes = plt.subplots(figsize=(8, 4.6))
        axes.plot([arm["cost"] for arm in arms], [arm["mean"] for arm in arms], "o", color=GREY, ms=5, alpha=0.7, label="an arm")
        axes.step([*(arm["cost"] for arm in steps), given["ends"]["cost"][1]], [*(a["mean"] for a in steps), steps[-1]["mean"]],
                  where="post", color=BLUE, lw=2, label="what a training budget buys, chosen on validation")  # fmt: skip
        costs = [k * tickets["cost"] for k in range(1, tickets["n"] + 1)]
        axes.plot(costs, tickets["worth"], "--D", color=GREEN, ms=5, label=f"best of k plain students, k = 1 to {tickets['n']}")
        axes.plot(steps[-1]["cost"], steps[-1]["mean"], "D", color=ORANGE, ms=10)
        axes.set(xscale="log", ylim=given["accuracies"], xlim=given["ends"]["cost"], ylabel="mean test accuracy (%)",
                 xlabel="training cost, teacher included (multiply-adds)")  # fmt: skip
        axes.xaxis.set_major_formatter(EngFormatter())
        figure.legend(frameon=False, loc="outside lower left", ncols=1)
        file = png(figure)
        plt.close(figure)
    alt = (
        f"Your budget, a picture of the live panel: {len(arms)} measured arms, test accuracy against training cost. Without a limit the "
        f"choice falls on {steps[-1]['label']}, {steps[-1]['mean']:.1f} %. The best of {tickets['n']} plain students is worth "
        f"{tickets['worth'][-1]:.1f} % at {tickets['n']} times the cost of one, which is worth {tickets['worth'][0]:.1f} %."
    )
    return file, alt
