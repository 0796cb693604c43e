import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reducenet.study.report.statistics import DECIDED, Reading, compare, detectable, t_interval


def table(**arms):
    return pd.DataFrame(arms, index=pd.RangeIndex(len(next(iter(arms.values()))), name="seed"))


def test_an_interval_can_wait_for_enough_seeds():
    assert np.isnan(t_interval([1.0, 2.0, 3.0, 4.0], least=5)[1:]).all()
    assert t_interval([1.0, 2.0, 3.0, 4.0], least=5)[0] == 2.5
    assert t_interval([1.0, 2.0, 3.0, 4.0, 5.0], least=5) == t_interval([1.0, 2.0, 3.0, 4.0, 5.0])


def test_interval_is_scipys_paired_t():
    rng = np.random.default_rng(0)
    values = table(plain=rng.normal(80, 1, 6), other=rng.normal(81, 1, 6))
    (contrast,) = compare(values, "plain", 0.5)
    peer = stats.ttest_rel(values.other, values.plain)
    assert contrast.mean == pytest.approx((values.other - values.plain).mean())
    assert (contrast.low, contrast.high) == pytest.approx(tuple(peer.confidence_interval(0.95)))
    assert contrast.p == pytest.approx(peer.pvalue)  # a family of one


def test_holm_by_hand():
    rng = np.random.default_rng(1)
    values = table(plain=rng.normal(80, 1, 8), **{f"arm{i}": rng.normal(80 + i / 2, 1, 8) for i in range(4)})
    raw = {arm: stats.ttest_rel(values[arm], values.plain).pvalue for arm in values if arm != "plain"}
    adjusted, running = {}, 0.0
    for rank, arm in enumerate(sorted(raw, key=raw.get)):
        running = max(running, min(1.0, (4 - rank) * raw[arm]))
        adjusted[arm] = running
    assert {c.arm: c.p for c in compare(values, "plain", 0.5)} == pytest.approx(adjusted)


def test_the_shipped_interval_covers_95_per_cent_at_five_seeds():
    rng = np.random.default_rng(2)
    inside = [low <= 0 <= high for _, low, high in (t_interval(rng.normal(0, 1, 5)) for _ in range(4000))]
    assert 0.94 < np.mean(inside) < 0.96


def test_readings():
    base = np.array([80.0, 80.5, 79.5, 80.2, 79.8, 80.1])
    noise = np.array([0.02, -0.03, 0.01, 0.0, -0.01, 0.01])
    values = table(plain=base, up=base + 2 + noise, down=base - 2 + noise, same=base + noise, unsure=base + 40 * noise)
    assert {c.arm: c.reading for c in compare(values, "plain", 0.5)} == {
        "up": "higher", "down": "lower", "same": "equivalent", "unsure": "undecided",
    }  # fmt: skip


def test_the_five_readings_their_order_and_their_marks():
    assert [reading.marked for reading in Reading] == ["▲ higher", "= equivalent", "▼ lower", "? undecided", "— no result"]
    assert [reading for reading in Reading if reading not in DECIDED] == ["undecided", "no result"]


def test_equivalence_is_two_one_sided_tests_adjusted_by_holm():
    rng = np.random.default_rng(6)
    values = table(plain=rng.normal(80, 0.2, 8), **{f"arm{i}": rng.normal(80 + i / 20, 0.2, 8) for i in range(3)})
    raw = {}
    for arm in ("arm0", "arm1", "arm2"):
        d = values[arm] - values.plain
        raw[arm] = max(stats.ttest_1samp(d, -0.5, alternative="greater").pvalue, stats.ttest_1samp(d, 0.5, alternative="less").pvalue)
    adjusted, running = {}, 0.0
    for rank, arm in enumerate(sorted(raw, key=raw.get)):
        running = max(running, min(1.0, (3 - rank) * raw[arm]))
        adjusted[arm] = running
    assert {c.arm: c.p_equivalent for c in compare(values, "plain", 0.5)} == pytest.approx(adjusted)


@pytest.mark.parametrize(("gap", "reading", "p", "same"), [(0.0, "equivalent", 1, 0), (0.7, "higher", 0, 1), (-0.1, "lower", 0, 0)])
def test_differences_that_never_vary_are_no_error_even_where_subtracting_leaves_dust(gap, reading, p, same):
    base = 100 * np.array([0.75, 0.751, 0.754, 0.759, 0.766])
    (contrast,) = compare(table(plain=base, arm=100 * (base / 100 + gap / 100)), "plain", 0.5)
    assert (contrast.reading, contrast.p, contrast.p_equivalent) == (reading, p, same)
    assert np.isnan(contrast.detectable)


def test_fewer_than_five_pairs_are_no_result_however_clear():
    for n, reading in ((4, "no result"), (5, "higher")):
        base = np.arange(float(n))
        assert compare(table(plain=base, arm=base + 3 + base % 2 / 10), "plain", 0.5)[0].reading == reading


def test_too_few_pairs_are_no_result_and_lost_pairs_are_dropped():
    base = np.arange(6.0)
    lost = base + 3
    lost[[1, 4]] = np.nan
    (contrast,) = compare(table(plain=base, lost=lost), "plain", 0.5)
    assert contrast.n == 4
    assert contrast.mean == 3
    assert contrast.reading == "no result"
    (none,) = compare(table(plain=base, none=np.full(6, np.nan)), "plain", 0.5)
    assert (none.n, none.reading) == (0, "no result")
    assert all(isinstance(p, float) and np.isnan(p) for p in (none.p, none.p_equivalent, none.p_flip))


def test_equal_arms_are_equivalent_and_not_an_error():
    base = np.arange(6.0)
    (contrast,) = compare(table(plain=base, twin=base.copy()), "plain", 0.5)
    assert contrast.reading == "equivalent"
    assert contrast.p == 1


def test_detectable_difference_has_80_per_cent_power():
    rng = np.random.default_rng(3)
    d = rng.normal(0, 1, 8)
    (contrast,) = compare(table(plain=np.zeros(8), arm=d), "plain", 0.1)
    spread = d.std(ddof=1)
    found = [stats.ttest_1samp(rng.normal(contrast.detectable, spread, 8), 0).pvalue < 0.05 for _ in range(3000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 32])
@pytest.mark.parametrize("comparisons", [1, 20, 46, 500])
def test_detectable_is_exact_at_small_levels_and_few_seeds(n, comparisons):
    """The noncentral t distribution, integrated: chi over its density, the normal tail at each."""
    level = 0.05 / comparisons
    d = detectable(n, level)
    beyond, centre = stats.t.ppf(1 - level / 2, n - 1), d * n**0.5
    chi = np.linspace(0, stats.chi.ppf(1 - 1e-13, n - 1), 400_001)
    power = np.trapezoid(stats.chi.pdf(chi, n - 1) * stats.norm.sf(beyond * chi / (n - 1) ** 0.5 - centre), chi)
    assert power == pytest.approx(0.8, abs=5e-4)


def test_pairs_that_were_asked_for_are_in_the_family():
    rng = np.random.default_rng(4)
    values = table(plain=rng.normal(80, 1, 8), a=rng.normal(81, 1, 8), b=rng.normal(82, 1, 8))
    contrasts = compare(values, "plain", 0.5, [["b", "a"]])
    assert [(c.arm, c.against) for c in contrasts] == [("a", "plain"), ("b", "plain"), ("b", "a")]
    assert contrasts[2].mean == pytest.approx((values.b - values.a).mean())
    raw = sorted(stats.ttest_rel(values[x], values[y]).pvalue for x, y in (("a", "plain"), ("b", "plain"), ("b", "a")))
    assert min(c.p for c in contrasts) == pytest.approx(3 * raw[0])


def test_detectable_in_a_family_is_found_in_its_worst_place():
    rng = np.random.default_rng(5)
    values = table(plain=np.zeros(8), **{f"arm{i}": rng.normal(0, 1, 8) for i in range(5)})
    contrast = compare(values, "plain", 0.1)[0]
    found = [stats.ttest_1samp(rng.normal(contrast.detectable, values.arm0.std(), 8), 0).pvalue < 0.05 / 5 for _ in range(3000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
