"""Two arms on the same test images: McNemar a seed, the interval for other seeds and other images, the signs turned; against other ways."""

import io
import itertools

import numpy as np
import pandas as pd
import pytest
from finished import Project, answered
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reducenet.study.report import statistics
from reducenet.study.report.images import OnImages, on_images, pack_answers, read_answers, two_way
from reducenet.study.report.statistics import compare, family, sign_flip, t_interval
from reducenet.study.report.tables import read_rows


def crossed(rng, seeds=6, images=200, between=5.0, hard=20.0, noise=60.0, mean=0.0):
    """Differences of answers, in points: some of a seed's own, some of an image's own, the rest of both."""
    return mean + rng.normal(0, between, (seeds, 1)) + rng.normal(0, hard, (1, images)) + rng.normal(0, noise, (seeds, images))


def test_the_two_way_interval_is_that_of_drawing_seeds_and_images_again():
    d, rng = crossed(np.random.default_rng(0)), np.random.default_rng(1)
    seeds, images = rng.multinomial(6, [1 / 6] * 6, 20_000), rng.multinomial(200, [1 / 200] * 200, 20_000)
    drawn = np.einsum("bs,si,bi->b", seeds, d, images, optimize=True) / d.size
    low, high = two_way(d)
    assert (low + high) / 2 == pytest.approx(d.mean())
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 5) * (6 / 5) ** 0.5 * drawn.std(), rel=0.02)


def test_where_no_image_differs_from_another_it_is_the_t_interval():
    d = np.repeat(np.array([[0.5], [1.5], [-0.25], [2.0], [1.0]]), 300, axis=1)
    assert two_way(d) == pytest.approx(t_interval(d[:, 0])[1:])


def test_it_covers_other_seeds_and_other_images_where_the_seeds_interval_does_not():
    rng, wide, narrow = np.random.default_rng(2), [], []
    for _ in range(600):
        d = crossed(rng, seeds=8, images=60, between=1.0, hard=40.0, noise=10.0)
        wide.append(two_way(d)[0] <= 0 <= two_way(d)[1])
        _, low, high = t_interval(d.mean(1))
        narrow.append(low <= 0 <= high)
    assert np.mean(wide) > 0.94
    assert np.mean(narrow) < 0.8  # it speaks of these images alone


def table(answers: dict[tuple[str, int], np.ndarray]) -> pd.DataFrame:
    rows = [
        dict(arm=arm, seed=seed, status="ok", test_images=len(right), answers=np.packbits(right)) for (arm, seed), right in answers.items()
    ]
    return pd.DataFrame(rows)


def test_mcnemar_is_the_binomial_of_the_images_that_differ_and_seeds_are_paired():
    rng = np.random.default_rng(3)
    base = {seed: rng.random(403) < 0.7 for seed in range(4)}
    flips = {0: (40, 5), 1: (3, 30), 2: (10, 9), 3: (12, 3)}  # images lost, images gained
    other = {}
    for seed, (lost, gained) in flips.items():
        now = base[seed].copy()
        now[np.flatnonzero(base[seed])[:lost]] = False
        now[np.flatnonzero(~base[seed])[:gained]] = True
        other[seed] = now
    shuffled = [("a", 2), ("b", 3), ("a", 0), ("b", 0), ("b", 2), ("a", 1), ("b", 1), ("a", 3)]
    rows = table({(arm, seed): (other if arm == "a" else base)[seed] for arm, seed in shuffled})
    peer = {seed: stats.binomtest(gained, lost + gained).pvalue < 0.05 for seed, (lost, gained) in flips.items()}
    found = on_images(rows, "a", "b")
    assert [seed for seed in flips if peer[seed]] == [0, 1, 3]
    assert (found.n, found.better, found.worse) == (4, 1, 2)
    d = 100 * np.stack([other[seed].astype(float) - base[seed] for seed in range(4)])
    assert (found.low, found.high) == pytest.approx(two_way(d))
    assert on_images(rows.assign(answers=None), "a", "b") is None
    assert on_images(rows[rows.seed == 1], "a", "b") is None
    assert on_images(rows.assign(status=np.where(rows.seed == 3, "diverged", "ok")), "a", "b").n == 3


def test_equal_answers_are_apart_nowhere():
    rows = table({(arm, seed): answered(0.7, seed) for arm in "ab" for seed in range(5)})
    assert on_images(rows, "a", "b") == OnImages(5, 0, 0, 0.0, 0.0)


def brute(d):
    means = [np.mean(np.array(signs) * d) for signs in itertools.product([1, -1], repeat=len(d))]
    return np.mean(np.abs(means) >= abs(np.mean(d)) - 1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
@pytest.mark.parametrize("centre", [0.0, 0.6, -2.0])
def test_all_signs_are_counted(n, centre):
    d = np.random.default_rng(n).normal(centre, 1, n)
    assert sign_flip(d) == pytest.approx(brute(d))
    assert sign_flip(-d) == sign_flip(d)
    ties = np.round(d) / 50  # as accuracies have them, whose sums round differently
    assert sign_flip(ties) == pytest.approx(brute(ties))


def test_more_seeds_are_exact_too():
    """Against the count of the signs of equal differences, which is binomial, and against scipy, which tries each."""
    for n in (16, 31, 40):
        assert sign_flip(np.full(n, 2.0)) == 2 / 2**n
        one_apart = np.full(n, 2.0) * np.where(np.arange(n) == 3, -1, 1)
        assert sign_flip(one_apart) == pytest.approx(2 * (1 + n) / 2**n)
    d = np.random.default_rng(4).normal(0.6, 1, 15)
    exact = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(d) == pytest.approx(exact.pvalue)


def test_of_very_many_seeds_signs_are_drawn_and_of_one_there_is_nothing_to_flip():
    many = np.random.default_rng(4).normal(0.3, 1, 41)
    assert sign_flip(many) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.01)
    assert sign_flip(many) != sign_flip(many[:40])
    assert sign_flip(np.zeros(8)) == sign_flip(np.array([1.0, -1.0])) == 1
    assert np.isnan(sign_flip(np.array([1.0])))


def test_what_waits_for_its_rows_counts_in_the_family():
    rng = np.random.default_rng(5)
    asked = [(f"arm{i}", "plain", rng.normal(0.8, 1, 8), 0.5) for i in range(3)]
    raw = sorted(stats.ttest_1samp(d, 0).pvalue for _, _, d, _ in asked)
    alone, waited = family(asked), family(asked, waiting=7)
    assert min(c.p for c in alone) == pytest.approx(min(1, 3 * raw[0]))
    assert min(c.p for c in waited) == pytest.approx(min(1, 10 * raw[0]))
    assert [c.p for c in family([*asked, *asked])] == pytest.approx([c.p for c in alone] * 2)  # asked twice, tested once
    empty = family([*asked, ("late", "plain", np.empty(0), 0.5)])
    assert min(c.p for c in empty) == pytest.approx(min(1, 4 * raw[0]))
    assert (empty[-1].n, empty[-1].reading) == (0, "no result")
    assert all(later.detectable > now.detectable for later, now in zip(waited, alone, strict=True))


@pytest.mark.parametrize("size", [1, 4, 24])
def test_holm_is_statsmodels(size):
    rng = np.random.default_rng(size)
    p = [float(x) for x in rng.random(size) ** 4]
    p[-1] = p[0]  # a tie
    assert statistics._holm(p, size) == pytest.approx(multipletests(p, method="holm")[1])
    assert statistics._holm(p, size + 3) == pytest.approx(multipletests([*p, 1, 1, 1], method="holm")[1][:size])


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_report_publishes_the_answers_of_its_rows(tmp_path):
    project = Project(tmp_path, lost={"plain/s2": "failed", "drop/s3": "diverged"})
    project.report()
    rows = read_rows(project.out)
    for row in rows.itertuples():
        right = np.unpackbits(row.answers, count=5000)
        assert right.sum() == (round(5000 * row.test_accuracy) if row.status == "ok" else 0)
    text = (project.out / "report.md").read_text()
    assert "| seeds apart on the images | with other images too |" in text
    assert "▲ 0 ▼ 4 of 4" not in text  # four seeds are no result
    file = project.out / "answers.npz"
    whole, packed = file.read_bytes(), np.load(file)["answers"]
    assert whole == pack_answers(packed)
    file.write_bytes(pack_answers(packed[:-1]))
    with pytest.raises(ValueError, match=r"answers\.npz: has \(24, 625\) uint8, and results\.csv has 25 rows"):
        read_rows(project.out)
    for broken in (whole[:-30], whole[:40] + bytes(40) + whole[80:], b"", b"no answers", npy(packed)):
        file.write_bytes(broken)
        with pytest.raises(ValueError, match=r"answers\.npz: cannot be read \(\w+\); `reducenet publish` writes it"):
            read_rows(project.out)
    file.unlink()
    assert read_answers(project.out, 25) == [None] * 25


def test_a_study_that_chooses_on_validation_images_says_nothing_of_test_images(tmp_path):
    from finished import TEXT

    project = Project(tmp_path, TEXT.replace('baseline = "plain"', 'baseline = "plain"\non = "val"'))
    project.report()
    assert "seeds apart" not in (project.out / "report.md").read_text()


def test_compare_is_a_family_of_its_pairs():
    rng = np.random.default_rng(6)
    values = pd.DataFrame({arm: rng.normal(80, 1, 8) for arm in ("plain", "a", "b")})
    pairs = [("a", "plain"), ("b", "plain"), ("b", "a")]
    assert compare(values, "plain", 0.5, [["b", "a"]]) == family(
        [(*pair, (values[pair[0]] - values[pair[1]]).to_numpy(), 0.5) for pair in pairs]
    )
