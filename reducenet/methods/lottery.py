"""Lottery tickets: train k plain seeds and keep the best on validation. What an arm that costs k times as much has to beat.

The gain of such a draw is known before it is made, so it is a null hypothesis with a number and not a method.
"""

import math
from collections.abc import Sequence

from scipy import integrate, stats

from reducenet.words import Arm, AtLeast2, MoveError, choice


@choice
def best_of(played: Sequence[float | None], arm: Arm, tickets: AtLeast2) -> int:
    """The best of `tickets` replicates of arm `arm`, chosen on validation; its cost is that of all of them.

    `played` are their validation accuracies, None where a training diverged, and the answer is the index of the best, the first of equals.
    Test accuracies are not looked at. Raises `MoveError` where none has a validation accuracy.

    >>> best_of([0.91, 0.93, None, 0.93], "plain", 4)
    1
    """
    accuracies = [-math.inf if accuracy is None else accuracy for accuracy in played]
    if max(accuracies, default=-math.inf) == -math.inf:
        raise MoveError(f"best_of: none of {len(accuracies)} tickets has a validation accuracy")
    return accuracies.index(max(accuracies))


def expected_gain(k: int) -> float:
    """`E[max(z_1, ..., z_k)]` of k independent standard normals: what the best of k tickets gains, in standard deviations of a seed.

    The maximum has the density k phi(x) Phi(x)^(k - 1), integrated to about 1e-8. k = 2 gives 1/sqrt(pi), k = 3 gives 3/(2 sqrt(pi)).

    >>> [round(expected_gain(k), 2) for k in (1, 2, 3, 4, 5, 10)]
    [0.0, 0.56, 0.85, 1.03, 1.16, 1.54]
    """
    if k < 1:
        raise ValueError(f"the best of {k} tickets: there must be at least 1")
    value, _ = integrate.quad(lambda x: x * k * stats.norm.pdf(x) * stats.norm.cdf(x) ** (k - 1), -12, 12, epsabs=1e-10, limit=200)
    return value


def bar(mean: float, spread: float, k: int, correlation: float = 1.0) -> float:
    """`mean + correlation * spread * expected_gain(k)`: the accuracy that an arm as dear as k plain seeds must beat.

    `mean` and `spread` (a standard deviation, in the unit of `mean`) are of the plain arm over its seeds. Tickets are chosen on one set of
    images and judged on another: `correlation`, in [-1, 1], is that of the two accuracies over seeds. 1 is choosing on the set that
    judges: the gain of choosing on the test images, none of which would be seen again.
    """
    if spread < 0 or not -1 <= correlation <= 1:
        raise ValueError(f"the spread must be at least 0 and the correlation in [-1, 1], not {spread} and {correlation}")
    return mean + correlation * spread * expected_gain(k)
