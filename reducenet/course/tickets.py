"""Best of k: what it is worth to train a network k times and to keep the one that validation likes best."""

from collections.abc import Sequence
from math import comb


def expected_best(val: Sequence[float], test: Sequence[float], k: int) -> float:
    """The mean, over all choices of `k` of the runs, of the test accuracy of the run with the best validation accuracy.

    `expected_best(val, test, k) == mean(test[best_of(val of c)] for c in combinations(runs, k))`: exact for these n runs, drawn without
    replacement, and an unbiased estimate for seeds like them; of equals the first is kept, as `best_of` does. It says nothing beyond n.
    Raises `ValueError` for a k that is not between 1 and n. Explained on page 05.

    >>> expected_best([0.1, 0.3, 0.2], [1.0, 2.0, 6.0], 1), expected_best([0.1, 0.3, 0.2], [1.0, 2.0, 6.0], 3)
    (3.0, 2.0)
    """
    n = len(val)
    if len(test) != n or not 1 <= k <= n:
        raise ValueError(f"the best {k} of {n} runs: k must be between 1 and the number of runs, each with both accuracies")
    rising = sorted(range(n), key=lambda i: (val[i], -i))  # the run at place i is the best of those i and itself
    return sum(comb(place, k - 1) * test[i] for place, i in enumerate(rising)) / comb(n, k)
