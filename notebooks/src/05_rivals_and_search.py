# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · Who does it cheaper?
#
# > RepVGG, RepOptimizer, pruning, super-networks, lottery tickets: each promises a better small network. Give all of them the same budget.
# >
# > 中文：RepVGG、RepOptimizer、剪枝、超网络、抽彩票：都说能得到更好的小网络；给它们同样的预算，看谁更划算。
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
width: int = 8  # planes of the first stage
epochs: int = 1  # of each training; the recorded rivals had 1
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page("methods", seed=seed, width=width, epochs=epochs, dataset=dataset, profile=profile)
page

# %% tags=["panel"]
page.panel("budget")

# %% [markdown]
# ## Predict
#
# The article says it itself: several structures in one training are like several lottery tickets, and a few more tickets do not beat one
# with a larger prize. So draw: train the plain student once for every seed that was measured, and keep the one that is best on validation images.

# %% tags=["predict"]
from reducenet.course import recorded
from reducenet.course.prediction import between, predict
from reducenet.course.tickets import expected_best

plain = recorded.plain()  # of study quick, with all its seeds
worth = [expected_best(plain.val, plain.test, k) for k in range(1, len(plain.seeds) + 1)]
gain = worth[-1] - worth[0]
predict(f"On test images the best of {len(worth)} plain students beats one of them, on average, by …",
        ["less than half a point", "half a point to two", "more than two points"], between(gain, 0.5, 2),
        "; ".join(f"k = {k}: {value:.2f} %" for k, value in enumerate(worth, 1)))  # fmt: skip

# %% [markdown]
# What does a rival do for the same money? The plain student is trained for as long as two stages cost, and that is one more arm of the panel.

# %%
rival = next(arm for arm in recorded.arms() if "quick" in arm.studies and arm.name == "plain-long")
print(f"{rival.cost / plain.cost:.1f} tickets cost what {rival.label} costs: {rival.mean:.1f} %, {rival.mean - worth[0]:+.1f} points, "
      f"n = {len(rival.seeds)}. The best number of tickets, {worth.index(max(worth)) + 1}, brings {max(worth) - worth[0]:+.2f}.")  # fmt: skip

# %% [markdown]
# ## Who are the rivals?
#
# A ticket changes the start. RepVGG and RepOptimizer change how one conv learns. Pruning and super-networks look for the small network
# inside a large one. In our words each is a sentence of moves, with a price.

# %%
luck, learning = ("plain", "best-of-4"), ("repvgg", "repopt")
inside = ("drop-fc", "prune", "netaug", "sandwich-small", "sandwich-search", "depth")
recorded.table("methods", *luck, *learning, *inside)

# %% [markdown]
# Read the last two columns together. With so few seeds the table says what a method *costs*. Which is better it does not say.
#
# ## What does a parallel branch change?
#
# RepVGG trains branches side by side and adds them up at the end. If their scales are constant, the sum is one conv at every step.

# %%
from reducenet.course import sketches
from reducenet.course.figures import Beside

equation = (
    r"\begin{aligned} W &= s_3 W_3 + s_1 W_1 + s_0 \,\mathrm{diag}(u) \\ \Delta W_3 &= -\eta\, s_3 \tfrac{\partial L}{\partial W}"
    r"\ \Rightarrow\ \Delta W = -\eta\, M \tfrac{\partial L}{\partial W} \end{aligned}"
)
Beside(*sketches.parallel(), equation)

# %% [markdown]
# ## Derive it
#
# Each branch steps by its scale times the gradient, and counts in the sum by its scale: squares add up, each on the taps that the branch has.
# From here on *your* multiplier is the one that trains.

# %% tags=["derive"]
import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from reducenet.methods.repopt import GradientMultiplier


def multiplier(conv, conv3, conv1, identity):  # [out, in, 3, 3]
    m = torch.full_like(conv.weight.detach(), conv3**2)
    m[:, :, 1, 1] += conv1**2
    if conv.in_channels == conv.out_channels and conv.stride == (1, 1):
        m[range(len(m)), range(len(m)), 1, 1] += identity**2
    return m


# %%
from reducenet import build, repopt


def one_conv(net, **scales):
    """The network whose branch2 convs learn as three parallel branches would; what it computes is as before."""
    net = copy.deepcopy(net)
    for name, conv in list(net.named_modules()):
        if name.endswith("branch2.0"):
            multiplied = GradientMultiplier(multiplier(conv, **scales))
            parametrize.register_parametrization(conv, "weight", multiplied)
    return net


# %%
start, scales = build("plain", **page.size), {"conv3": 1.0, "conv1": 0.7, "identity": 0.5}
both = one_conv(start, **scales), repopt(start, **scales)
for mine, package in zip(*(net.buffers() for net in both), strict=True):
    torch.testing.assert_close(mine, package, rtol=0, atol=0)
print("your multipliers are the package's, in every block")

# %% [markdown]
# Now the experiment that the equation stands for: train the three branches, train the one conv, compare their kernels.


# %%
def normal(*size, number=0):
    draw = torch.Generator().manual_seed(3 * seed + number)
    return torch.randn(size, generator=draw, dtype=torch.float64)


def branches(conv3, conv1, identity, c=6):
    """Three branches: what they train, and the kernel that they add up to."""
    w3, w1, u = (normal(*size).requires_grad_() for size in ((c, c, 3, 3), (c, c), (c,)))
    centre = nn.Parameter(torch.zeros(1, 1, 3, 3).double(), requires_grad=False)
    centre[..., 1, 1] = 1.0
    return [
        w3,
        w1,
        u,
    ], lambda: conv3 * w3 + centre * (conv1 * w1 + identity * u.diag())[..., None, None]


# %%
def trained(optimiser, clip=None, steps=30):
    """Both ways from one kernel on the same data: the largest difference between the kernels at the end."""
    parts, kernel = branches(**scales)
    conv = nn.Conv2d(6, 6, 3, padding=1, bias=False).double()
    conv.weight.data = kernel().detach().clone()
    multiplied = GradientMultiplier(multiplier(conv, **scales))
    parametrize.register_parametrization(conv, "weight", multiplied)
    for weights, current in ((parts, kernel), (list(conv.parameters()), lambda: conv.weight)):
        descend(optimiser(weights), weights, current, clip, steps)
    return (kernel() - conv.weight).abs().max().item()


# %%
def descend(step, weights, kernel, clip, steps):
    x, y = normal(8, 6, 10, 10, number=1), normal(8, 6, 10, 10, number=2)
    for _ in range(steps):
        step.zero_grad()
        (nn.functional.conv2d(x, kernel(), padding=1) - y).square().mean().backward()
        if clip:
            nn.utils.clip_grad_norm_(weights, clip)
        step.step()


# %% tags=["predict"]
def sgd(weights):
    return torch.optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)


gap = trained(sgd)
predict("SGD with Nesterov's momentum and weight decay, 30 steps. The two kernels then differ by …",
        ["less than a billionth", "less than a thousandth", "more than that"], between(gap, 1e-9, 1e-3),
        f"{gap:.1e}, where weights are about 1")  # fmt: skip

# %% [markdown]
# Momentum and weight decay are linear in weights and gradients, so they commute with the sum. A RepVGG without its BatchNorms is *exactly* a
# learning rate for each tap. The article suspected it: one more dimension for tuning learning rates.
#
# ## Your turn
#
# Difficulty ●●●○○ · 15 minutes. One step of plain SGD for the whole structure. The identity is there only where channels are kept (stride is 1).


# %% tags=["exercise"]
def updated(weight, gradient, conv3, conv1, identity, lr):  # [out, in, 3, 3] both
    return ...


# %% tags=["check"]
from reducenet.course.exercises import rivals as exercises

exercises.updated(updated)

# %% [markdown]
# <details><summary>Hint</summary>Build M as above, from shapes alone. The step is −lr · M · gradient, elementwise.</details>
# <details><summary>Solution</summary>
#
# ```python
# def updated(weight, gradient, conv3, conv1, identity, lr):
#     m = torch.full_like(weight, conv3**2)
#     m[:, :, 1, 1] += conv1**2
#     if weight.shape[0] == weight.shape[1]:
#         m[:, :, 1, 1] += identity**2 * torch.eye(len(m), dtype=m.dtype)
#     return weight - lr * m * gradient
# ```
#
# </details>
#
# Difficulty ●●●○○ · 15 minutes. The expected test accuracy of the best on validation among k of n measured runs: the mean over all draws.


# %% tags=["exercise"]
def best_of_k(val, test, k):  # lists of n accuracies -> one number
    return ...


# %% tags=["check"]
exercises.best_of_k(best_of_k)

# %% [markdown]
# <details><summary>Hint</summary><code>itertools.combinations(range(n), k)</code> are the draws. In each, who is best on <code>val</code>, and what is its <code>test</code>?</details>
# <details><summary>Solution</summary>
#
# ```python
# from itertools import combinations
#
# def best_of_k(val, test, k):
#     chosen = [max(draw, key=lambda i: val[i]) for draw in combinations(range(len(val)), k)]
#     return sum(test[i] for i in chosen) / len(chosen)
# ```
#
# </details>
#
# ## Does it pay?
#
# Here is what was recorded of the rivals, each against the plain student of the same seed. Your own run of the RepOptimizer joins as a ring.

# %%
from reducenet import accuracy, fit

live = {}
for arm, net in {
    "plain": start,
    "repopt": one_conv(start, conv3=1.0, conv1=1.0, identity=0.0),
}.items():
    net, _ = fit(net, page.data, **page.training)
    if page.as_recorded:
        live[arm] = 100 * accuracy(net, page.data, page.data.test)
rivals = "repopt", "repvgg", "best-of-4", "prune", "netaug", "sandwich-small"
page.evidence.figure(*rivals, live=live)

# %%
page.evidence.say(*rivals)

# %% [markdown]
# So who does it cheaper? What stands above is all that the rows allow to say. Where a line reads *not decided yet*, nobody has won, however
# far its mean is from zero; the page fills itself when more seeds have run. Look up any arm yourself:

# %%
from reducenet.course.choosing import Choosing

Choosing(page.evidence, "repvgg")

# %% [markdown]
# ## Break it
#
# What is not linear breaks the equality: Adam divides by the gradient's own size, clipping looks at all gradients together. And tickets chosen on
# the test images look better than they are.


# %%
def adam(weights):
    return torch.optim.Adam(weights, lr=0.1)


for name, value in {"SGD": gap, "clipped": trained(sgd, clip=0.01), "Adam": trained(adam)}.items():
    print(f"{name:8s} the kernels differ by {value:.1e}")
honest, cheating = worth[-1], expected_best(plain.test, plain.test, len(worth))
print(
    f"best of {len(worth)}: chosen on validation {honest:.2f} %, on the test images {cheating:.2f} %"
)

# %% [markdown]
# ## Recap
#
# - Parallel branches with constant scales are one conv whose gradient is multiplied: structure in the optimiser, free when deployed, and in training.
# - A ticket costs a whole training. What k of them are worth is a number, known from the spread of the seeds, before anything is claimed.
# - Which rival is better is a question of rows:

# %%
page.evidence.say("drop-fc", "best-of-4", "depth")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is the scale squared?</summary>It counts twice: the gradient of a branch's weights is the scale times that of the sum, and the step returns to the sum times the scale.</details>
# <details><summary>2. RepVGG has a BN in every branch. Is it still a RepOptimizer?</summary>No. In training a BN divides by the batch's own spread, so the scales are not constant; only in eval mode do the branches add up to one conv.</details>
# <details><summary>3. Why may the best of more tickets be worth less than the best of fewer?</summary>The winner is chosen on validation images. Where the run that is best there is not the best on test images, drawing more makes sure to draw it. With more seeds measured this evens out.</details>
# <details><summary>4. The super-network trains large and small at once. Why is it dearer than two stages here?</summary>The sandwich rule runs the largest, the smallest and random ones between them in every step; two stages run one network a step.</details>
# <details><summary>5. Why does the panel choose on validation images and show test accuracies?</summary>Choosing is fitting. Among dozens of arms the best on test images is partly the luckiest; what it shows would not repeat.</details>
#
# What the experiments say of the claims behind this page, with intervals, controls and every run:
#
# <!-- claims -->
#
# **Try next:** `scales` with `identity = 2.0`: does the equality hold? `seed = 7`: where does your ring fall?
#
# **References:** Ding et al., RepVGG, arXiv:2101.03697 · Ding et al., RepOptimizer, arXiv:2205.15242 · Fang et al., DepGraph, arXiv:2301.12900 ·
# Yu & Huang, universally slimmable networks, arXiv:1903.05134 · Cai et al., NetAug, arXiv:2110.08890 · Picard, arXiv:2109.08203
#
# <!-- next -->

# %% tags=["closing"]
page.close()
