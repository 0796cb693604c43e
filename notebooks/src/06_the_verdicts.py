# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6 · Which claims hold?
#
# > The article makes claims. A register says of each what would decide it, and with which controls. What do the rows say so far?
# >
# > 中文：文章提出了若干论断；登记表写明每条论断要靠什么对比、哪些对照来判定。到目前为止，数据怎么说？
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # of the simulations on this page
dataset: str = "fashion-mini"  # or synthetic; the rows shown here have their own
profile: str = "quick"  # smoke: few simulations; quick; full: 3x more

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page("quick", seed=seed, dataset=dataset, profile=profile)
page

# %% tags=["panel"]
page.panel("verdict")

# %% [markdown]
# ## Predict
#
# A claim is decided by eight paired seeds and all of its controls, not before. The article's claims, as the register counts them:

# %% tags=["predict"]
from collections import Counter

from reducenet.course.evidence import claims
from reducenet.course.prediction import between, predict

found = claims()
kinds = Counter(one.kind for one in found.values())
decided = sum(kinds[kind] for kind in ("supported", "refuted", "equivalent"))
predict(f"Of {len(found)} claims, so many are decided today:",
        ["none", "fewer than half", "half or more"], between(decided, 1, len(found) / 2),
        "; ".join(f"{count} {kind}" for kind, count in kinds.items()))  # fmt: skip

# %% [markdown]
# ## How is an interval read?
#
# Two arms share a seed, so each seed gives one *difference*. What teacher, images and order did to both of them cancels. The mean of the
# differences is a guess; the interval around it says how good a guess.

# %%
from reducenet.course import sketches
from reducenet.course.figures import Beside

equation = (
    r"\begin{aligned} d_i &= \mathrm{acc}(\mathrm{arm}, i) - \mathrm{acc}(\mathrm{against}, i) \\"
    r" \bar d &\pm t_{0.975,\,n-1} \cdot \frac{s}{\sqrt n} \end{aligned}"
)
Beside(*sketches.interval(), equation)

# %% [markdown]
# It says *higher* where the whole interval lies right of 0, *equivalent* where it lies inside the band of what does not matter (the 90 % interval:
# two one-sided tests), and *undecided* where it does neither. Undecided is not "the same".
#
# ## Derive it
#
# With five seeds the spread $s$ is itself a guess, so 1.96 is too short. Student's $t$ is the right factor: the mean over its own spread.
# From here on *your* interval is the one that is read.

# %% tags=["derive"]
from math import gamma, pi, sqrt

import numpy as np


def my_interval(values, level=0.95):
    n, mean, s = len(values), np.mean(values), np.std(values, ddof=1)
    half_angle = np.linspace(0, pi / 2, 400_001)[:-1]  # t = sqrt(n - 1) tan(angle)
    density = np.cos(half_angle) ** (n - 2) * gamma(n / 2) / (sqrt(pi) * gamma((n - 1) / 2))
    share = 2 * np.cumsum((density[1:] + density[:-1]) / 2) * half_angle[1]  # between -t and t
    t = sqrt(n - 1) * np.tan(np.interp(level, share, half_angle[1:]))
    return mean, mean - t * s / sqrt(n), mean + t * s / sqrt(n)


# %%
from reducenet.study.report.statistics import paired, t_interval

report, pair = page.evidence.report, ("drop-fc", "plain-long")
for contrast in report.contrasts:
    d = paired(report.values, contrast.arm, contrast.against)
    np.testing.assert_allclose(my_interval(d), t_interval(d), rtol=0, atol=1e-6)
mean, low, high = my_interval(paired(report.values, *pair))
print(
    f"{' minus '.join(report.labels[arm] for arm in pair)}: {mean:+.2f} [{low:+.2f}, {high:+.2f}] points"
)

# %% [markdown]
# An interval makes a promise: of all intervals made this way, so many hold the truth. Keep the promise with the wrong factor, and see.


# %%
def my_factor(n):
    """How many spreads of its mean your interval of n seeds reaches to each side."""
    _, low, high = my_interval(np.arange(n))
    return (high - low) / 2 / (np.std(np.arange(n), ddof=1) / sqrt(n))


# %% tags=["predict"]
draws = {"smoke": 500, "quick": 20_000, "full": 60_000}[profile]
made = np.random.default_rng(seed).normal(size=(draws, 5))  # five seeds, and the truth is 0
centre, error = made.mean(1), made.std(1, ddof=1) / sqrt(5)
factor = my_factor(5)
holds = {f: 100 * np.mean(np.abs(centre) < f * error) for f in (1.96, factor)}
predict("Intervals of five seeds with 1.96 in place of t hold the truth in … of 100 cases.",
        ["below 80", "80 to 93", "about 95"], between(holds[1.96], 80, 93),
        f"{holds[1.96]:.1f} with 1.96, {holds[factor]:.1f} with t = {factor:.2f}, {draws:,} simulated studies")  # fmt: skip

# %% [markdown]
# ## Which claims hold?
#
# The register is a file, `ablations/claims/register.toml`: wording, contrast, controls, margin and rule of every claim. Nothing below is typed.
# Every claim has a page with its controls, replications, costs and executed runs: [the claims](../reports/claims/report.md).

# %%
from IPython.display import Markdown

from reducenet.study.claims.overview import table

Markdown(table(found))

# %% [markdown]
# Read the third column for what holds, and the fourth for how the first contrast stands. A control that is missing keeps a claim open however clear its
# interval is: without a random frozen classifier, who knows that it was the *teacher's* that helped?
#
# ## Your turn
#
# Difficulty ●●●○○ · 20 minutes. Read a comparison as the reports do, in a family of one: `"higher"`, `"lower"`, `"equivalent"`,
# `"undecided"`, or `"no result"` for fewer than five paired seeds. A sure difference goes before equivalence. You may use
# `t_interval(values, level)`.


# %% tags=["exercise"]
def reading(arm, against, margin):  # two lists, a seed at each place, in per cent
    return ...


# %% tags=["check"]
from reducenet.course.exercises import verdicts as exercises

exercises.reading(reading)

# %% [markdown]
# <details><summary>Hint</summary>Pair first. 0 outside of the 95 % interval is a difference; the 90 % interval inside ±margin is equivalence.</details>
# <details><summary>Solution</summary>
#
# ```python
# def reading(arm, against, margin):
#     d = np.subtract(arm, against)
#     if len(d) < 5:
#         return "no result"
#     _, low, high = t_interval(d, 0.95)
#     if low > 0 or high < 0:
#         return "higher" if low > 0 else "lower"
#     _, low, high = t_interval(d, 0.90)
#     return "equivalent" if -margin < low and high < margin else "undecided"
# ```
#
# </details>
#
# Difficulty ●●○○○ · 10 minutes. Match a budget. `teacher` and `student` are the multiply-adds of one *training* epoch, `answers` those of the
# teacher's soft labels in one epoch of the second stage (0 without them), `stages` the epochs of both stages. How many epochs may the plain student
# train, to the nearest whole one, and at least one?


# %% tags=["exercise"]
def affordable(teacher, student, answers, stages):
    return ...


# %% tags=["check"]
exercises.affordable(affordable)

# %% [markdown]
# <details><summary>Hint</summary>Everything that was trained on the way counts, the teacher first.</details>
# <details><summary>Solution</summary>
#
# ```python
# def affordable(teacher, student, answers, stages):
#     cost = stages[0] * teacher + stages[1] * (student + answers)
#     return max(1, round(cost / student))
# ```
#
# </details>
#
# ## Does it pay?
#
# The article's main question once more, with every seed: the two-stage student, as it recommends it, against a plain student at its cost.

# %%
page.evidence.figure(
    pair, ("drop-ce", "plain-long"), ("drop-kd", "plain-long"), "drop-fc", "plain-long"
)

# %%
page.evidence.say(pair, ("drop-ce", "plain-long"), ("drop-kd", "plain-long"))

# %%
from reducenet.course.choosing import Choosing

Choosing(page.evidence, "drop-fc")

# %% [markdown]
# ## Your own arm
#
# A claim of yours is an arm more: a label and a sentence of moves. These lines are a study file's; it is planned, run and reported here as
# `reducenet run` and `reducenet report` do it, on synthetic images. The number means nothing; that it ran, and what the report makes of it, is the point.

# %%
MY_ARM = """
[arms.mine]
label = "my student"
chain = [{ build = { block = "scaler", expansion = 2 } }, "fit", "drop_branch", "recalibrate"]
"""

# %% tags=["own"]
from reducenet.course.own import play_own, sentence

own = play_own(MY_ARM, seeds=2)
print(sentence(own))
own.values.round(1)

# %% [markdown]
# Two seeds are no result, and the report says so before it says anything else. For a real study put the file into `ablations/`, with at least
# five seeds; a move of your own goes into a Python file and is read with `--words` (CONTRIBUTING.md).
#
# ## Break it
#
# Peek after every seed and stop at the first "significant" one: the truth is 0, and it will be found to be something else.

# %%
studies = np.random.default_rng(seed).normal(size=(draws // 10, 32))
counts = np.arange(1, 33)
means = studies.cumsum(1) / counts
spreads = np.sqrt((np.square(studies).cumsum(1) - counts * means**2)[:, 1:] / counts[:-1])
factors = np.array([my_factor(n) for n in counts[1:]])
hits = np.abs(means[:, 1:]) > factors * spreads / np.sqrt(counts[1:])
print(f"looked at once, with all 32 seeds: {100 * hits[:, -1].mean():.1f} % find a difference")
print(f"looked at after every seed: {100 * hits.any(1).mean():.1f} % find one, sooner or later")

# %% [markdown]
# That is why the register says how many seeds decide, and what comes before is called *so far*. It was written when some studies had five seeds
# already: a peek of ours, which you now know of.
#
# ## Recap
#
# - Pair by seed, take the $t$ interval, adjust for the whole family, and say undecided where it is.
# - A claim is decided by its controls as much as by its seeds; its teacher's training is part of its cost.
# - What the article's main claims are today:

# %%
Markdown(table(found, "H1", "H2", "H4", "H4b", "H5", "H10"))

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why pair by seed?</summary>Both arms of a seed share start, images and order, wherever they have parts in common. What these do to both cancels in the difference, and the interval is shorter for the same seeds.</details>
# <details><summary>2. The interval holds 0. Are the arms the same?</summary>Not shown. It may be too wide to tell; the same data can be compatible with a difference that matters. Equivalence needs an interval inside the margin.</details>
# <details><summary>3. A difference is higher but smaller than the margin. What now?</summary>It is real and does not matter: both can be true. The reports call it higher and print the margin beside it.</details>
# <details><summary>4. Why does one more comparison in a study change the readings of the others?</summary>Holm shares one error rate among all comparisons of the family: the more are asked, the surer each has to be.</details>
# <details><summary>5. Four times as many seeds: how much shorter is the interval?</summary>About half as long, since the spread of a mean shrinks with the square root of n; from few seeds a little more, since t shrinks as well.</details>
#
# **Try next:** an arm of your own with `after = "mine"` and one more `fit`; in the panel, how many seeds would H1 need to find a difference of one point?
#
# **References:** Student, 1908 · Holm, 1979 · Schuirmann, 1987 (two one-sided tests) · Bouthillier et al., arXiv:2103.03098 · Agarwal et al., arXiv:2108.13264 ·
# Picard, arXiv:2109.08203
#
# <!-- next -->

# %% tags=["closing"]
page.close()
