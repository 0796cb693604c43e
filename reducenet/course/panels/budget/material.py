"""What the panel of page 05 is handed: every measured arm with its seeds and costs, and what the best of k plain students is worth.

Nothing is measured here. An arm is chosen by its mean validation accuracy, and its test accuracies are what is told of it.
"""

import math

from reducenet.course import recorded
from reducenet.course.tickets import expected_best

EVERY = "every study"
STEPS = 120  # of a budget's slider, from the cheapest arm to the dearest, in equal factors
BELOW = 20.0  # points under the best: what lies lower stands at the edge


def material(study: str = EVERY) -> dict:
    """All that the panel shows, as JSON. Raises `ValueError` for a study without rows."""
    arms = recorded.arms()
    names = [EVERY, *dict.fromkeys(name for arm in arms for name in arm.studies)]
    if study not in names:
        raise ValueError(f"no rows of study {study!r}; there are {', '.join(names)}")
    top, told = max(arm.mean for arm in arms), tickets()
    return {
        "studies": names,
        "start": study,
        "steps": STEPS,
        "ends": {
            "cost": _ends([*(arm.cost for arm in arms), told["n"] * told["cost"]]),
            "macs": _ends([arm.macs for arm in arms]),
        },
        "accuracies": [5 * math.floor((top - BELOW) / 5), 5 * math.ceil(max(max(arm.test) for arm in arms) / 5)],
        "arms": [_told(arm) for arm in arms],
        "tickets": told,
    }  # fmt: skip


def _ends(values: list[float]) -> list[float]:
    """The cheapest and the dearest, with a little air."""
    return [min(values) / 1.15, max(values) * 1.15]


def _told(arm: recorded.Recorded) -> dict:
    return {
        "label": arm.label, "studies": arm.studies, "sentence": arm.sentence, "seeds": arm.seeds, "cost": arm.cost, "macs": arm.macs,
        "test": [round(value, 4) for value in arm.test], "mean": arm.mean, "chosen": arm.chosen,
    }  # fmt: skip


def tickets() -> dict:
    """The plain student of study quick, with all seeds that there are: what the best of k on validation is worth on test, and costs."""
    plain = recorded.plain()
    worth = [expected_best(plain.val, plain.test, k) for k in range(1, len(plain.seeds) + 1)]
    return {"label": plain.label, "n": len(plain.seeds), "cost": plain.cost, "macs": plain.macs, "test": plain.test, "worth": worth,
            "studies": plain.studies}  # fmt: skip
