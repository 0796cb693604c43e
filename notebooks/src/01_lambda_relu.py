# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · An activation that slides away
#
# > A ReLU between two convolutions bends until it is a straight line, and the two are one. Find out when exactly, and what it buys.
# >
# > 中文：两个卷积之间的 ReLU 慢慢变成一条直线，两个卷积就成了一个；看看何时才精确，又换来了什么。
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
lam: float = 0.0  # where the panel starts: 0 is ReLU, 1 the identity
width: int = 8  # planes of the first stage
epochs: int = 3  # of each training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer
retrain: bool = False  # True: train here what is shipped

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page("lambda", seed=seed, lam=lam, width=width, epochs=epochs,
                 dataset=dataset, profile=profile, retrain=retrain)  # fmt: skip
page

# %% tags=["panel"]
relu, slid = page.network("lambda-relu"), page.network("lambda-slide")
page.panel("slide", relu=relu, slid=slid, lam=lam)

# %% [markdown]
# ## Predict
#
# One network was trained with ReLUs. Take those between its pairs of convolutions out, train nothing: every pair is now one convolution.

# %% tags=["predict"]
from reducenet import accuracy, linearise
from reducenet.course.prediction import between, predict

before, after = (100 * accuracy(net, page.data, page.data.val) for net in (relu, linearise(relu)))
predict(
    "Without the ReLUs in its pairs the share of right answers falls …",
    ["to about chance", "by more than half", "by less than half", "by less than 5 points"],
    right=between(after, 200 / page.classes, before / 2, before - 5),
    measured=f"{before:.1f} % with, {after:.1f} % without; chance is {100 / page.classes:.0f} %.",
)

# %% [markdown]
# ## What does the block compute?
#
# A 3×3 convolution widens, a 1×1 convolution narrows again, each with its BatchNorm. Between them stands *LambdaReLU*: a ReLU at $\lambda = 0$, a
# straight line at 1. The ReLU *behind* the pair stays.

# %%
from reducenet.course.figures import Beside
from reducenet.course.panels.slide.drawing import pair_and_one

equation = (
    r"\begin{aligned} a_\lambda(z) &= \lambda z + (1 - \lambda)\,\mathrm{relu}(z) \\"
    r" \mathrm{pair}(x) &= W_2\, a_\lambda(W_1 x + b_1) + b_2 \\"
    r" \lambda = 1:\quad \mathrm{pair}(x) &= (W_2 W_1)\, x + (W_2 b_1 + b_2) \end{aligned}"
)
Beside(*pair_and_one(), equation)

# %% [markdown]
# ## Derive it
#
# At $\lambda = 1$ nothing bends between the two: the pair is linear in $x$ but for a constant, and it does the same at every place. Whatever is
# both *is* a convolution, and its kernel is what it answers to a single lit pixel. So no algebra is needed yet: ask.

# %% tags=["derive"]
import torch
from torch import nn


@torch.no_grad()
def ask(pair, channels):
    lit = torch.eye(channels, dtype=torch.float64)[:, :, None, None]  # in image i channel i is lit,
    lit = nn.functional.pad(lit, (2, 2, 2, 2))  # at one pixel of 5x5
    dark = pair(0 * lit[:1])
    answers = pair(lit) - dark  # [in, out, 5, 5], and 0 beyond the 3x3 in the middle
    one = nn.Conv2d(channels, answers.shape[1], 3, padding=1).double()
    one.weight.data = answers[..., 1:4, 1:4].flip(2, 3).transpose(0, 1)
    one.bias.data = dark[0, :, 2, 2]
    return one


# %%
from copy import deepcopy

from reducenet import fold_bn, merge

pair = deepcopy(slid.stage1[0].pair).double()  # conv3, BN, LambdaReLU at lam 1, conv1, BN
one, theirs = ask(pair, pair[0].in_channels), merge(fold_bn(*pair[:2]), fold_bn(*pair[3:]))
for mine_, packages in zip(one.parameters(), theirs.parameters(), strict=True):
    torch.testing.assert_close(mine_, packages, rtol=0, atol=1e-10)
print("the kernel that the pair answers with is the package's, in float64")

# %% [markdown]
# From here on, yours is the one that runs: it stands in the trained network, in place of the first pair.

# %%
from reducenet import macs

mine, x = deepcopy(slid), page.data.normalise(page.data.val.images[:64])
mine.stage1[0].pair = deepcopy(one).float()
torch.testing.assert_close(mine(x), slid(x), rtol=0, atol=1e-4)
print(f"{100 * accuracy(mine, page.data, page.data.val):.1f} % of the validation images, as before")
print(f"multiply-adds an image: {macs(slid, page.shape):,} before, {macs(mine, page.shape):,} now")

# %% [markdown]
# ## What happened to the network that was forced?
#
# The merge was exact there too. What changed is the function: about half of what reaches an activation lies below 0. The layers behind never
# saw it in training, and at $\lambda = 1$ all of it arrives. The other network was trained while $\lambda$ moved, and the second half of its
# training *was* the network with one convolution a pair. So it works at 1, and in its turn not at 0: its curve in the panel shows it.
#
# How much of the fall is only a matter of scale? Every BatchNorm remembers a mean and a variance. Measure them anew, move no weight:

# %%
from reducenet import recalibrate

rescaled = recalibrate(linearise(relu), page.data, images=min(4000, len(page.data.train.labels)))
again, mean = 100 * accuracy(rescaled, page.data, page.data.val), page.evidence.mean
print(f"forced {after:.1f} %, measured anew {again:.1f} %, with its ReLUs {before:.1f} %")
print(f"test images, all seeds: {mean('forced')}, {mean('forced-bn')}, {mean('wide')}")

# %% [markdown]
# Exact needs one thing more: the zeros around the image must stand before the *first* convolution. Move them between the two. The maps keep
# their size, and inside nothing changes.

# %% tags=["predict"]
conv3, conv1 = fold_bn(*pair[:2]), fold_bn(*pair[3:])
conv3.padding, conv1.padding = (0, 0), (1, 1)
with torch.no_grad():
    maps = slid.stem(x).double()
    gap = (conv1(conv3(maps)) - one(maps)).abs().amax((0, 1))
wrong, size = 100 * (gap > 1e-6).double().mean().item(), "×".join(map(str, gap.shape))
predict(
    f"Padded before the 1×1, on {size} maps: how many pixels does the one convolution get wrong?",
    ["none", "less than a tenth", "between a tenth and a half", "more than half"],
    right=between(wrong, 1e-9, 10, 50),
    measured=f"{wrong:.0f} % of the pixels, all on the outermost ring: up to {gap.max():.1f} there, "
    f"{gap[1:-1, 1:-1].max():.0e} inside. The smaller the map, the larger the share of its ring.",
)

# %% [markdown]
# There the second convolution reads zeros, and one convolution would read what the first computes from the image. `merge` refuses such
# a pair; it is never "close enough".
#
# ## Your turn
#
# Difficulty ●○○○○ · 5 minutes. The activation itself: ReLU at `lam` 0, the identity at 1, a straight slide in between.


# %% tags=["exercise"]
def lambda_relu(x, lam):
    return ...


# %% tags=["check"]
from reducenet.course.exercises import lambda_relu as exercises

exercises.lambda_relu(lambda_relu)

# %% [markdown]
# <details><summary>Hint</summary>Two terms whose weights add up to 1. Or: what happens to a number below 0, and what to one above?</details>
# <details><summary>Solution</summary>
#
# ```python
# def lambda_relu(x, lam):
#     return lam * x + (1 - lam) * torch.relu(x)
# ```
#
# </details>
#
# Difficulty ●●●○○ · 15 minutes. Now the algebra: `first` is a 3×3 convolution, `second` the 1×1 behind it, both with bias. Return weight
# and bias of the one convolution (its stride and padding are the first's), without running either.


# %% tags=["exercise"]
def my_merge(first, second):
    return ...


# %% tags=["check"]
exercises.merge(my_merge)

# %% [markdown]
# <details><summary>Hint</summary><code>second.weight[:, :, 0, 0]</code> is a matrix [out, inner]; <code>first.weight</code> is [inner, in, 3, 3]. Sum over what they share.</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_merge(first, second):
#     matrix = second.weight[:, :, 0, 0]
#     return torch.einsum("om,miyx->oiyx", matrix, first.weight), second.bias + matrix @ first.bias
# ```
#
# </details>
#
# ## Find the bug
#
# Difficulty ●●●○○ · 10 minutes. The first ReduceNet was reported with the activation below: the wider its pairs, the better it was, and "all
# models share the same deployment overhead". No code had fused one. Let us be the first: at scaler 0 two convolutions should be one.

# %%
import torch.nn.functional as F


def first_act(x, scaler):  # 1: ReLU, 0: the identity
    return scaler * F.relu(x, inplace=True) + (1 - scaler) * x


with torch.no_grad():
    inner = pair[:2](maps)
    out = first_act(inner.clone(), scaler=0.0)
    off = (pair[3:](out) - one(maps)).abs().max()
print(f"two convolutions less one: up to {off:.2f}; it should be 0")
print(f"below 0: {(inner < 0).sum():,} values before the activation, {(out < 0).sum():,} behind it")

# %% [markdown]
# So every network reported with it was a ReLU network, which nobody can fuse. A day later the author found the cause. Find it, and
# return what the line was meant to compute.


# %% tags=["exercise"]
def fixed(x, scaler):  # 1: ReLU, 0: the identity, and x stays what it was
    return ...


# %% tags=["check"]
exercises.fixed(fixed)

# %% [markdown]
# <details><summary>Hint</summary>Which term is computed first, and what is <code>x</code> when the second is? Run <code>first_act(x, 0.0)</code> on a small tensor and look at <code>x</code> afterwards.</details>
# <details><summary>Solution</summary><code>inplace=True</code> writes the ReLU into <code>x</code>; the second term then reads ReLU(x) too, and s relu(x) + (1 − s) relu(x) is relu(x) at every s. Autograd does not object.
#
# ```python
# def fixed(x, scaler):
#     return scaler * torch.relu(x) + (1 - scaler) * x
# ```
#
# </details>
#
# ## Does it pay?
#
# A pair that ends as one convolution costs no more to run than a plain network. It costs more to train, and two explanations are simpler
# than the slide: a linear pair trains differently even *without* any activation, and a plain network may spend the same training on more epochs.

# %%
from reducenet import build, fit

linear, _ = fit(build("lambda", lam=1.0, **page.size), page.data, **page.training)
plain, _ = fit(build("plain", **page.size), page.data, **page.training)
live = {"slide": slid, "linear": linear, "plain": plain, "wide": relu} if page.as_recorded else {}
live = {arm: 100 * accuracy(net, page.data, page.data.test) for arm, net in live.items()}
pairs = ("slide", "linear"), ("slide", "plain-long"), ("two-stage", "plain-longer")
page.evidence.figure(*pairs, "slide", "linear", "wide", live=live)

# %%
page.evidence.say(*pairs[:2])

# %% [markdown]
# ## Break it
#
# Almost linear is not linear. And a bias before the padding, as every BatchNorm leaves one, breaks the other order of the two convolutions.

# %%
from reducenet import NotExact, fuse
from reducenet.nets.activation import slide

for share in (0.0, 0.9, 0.99, 1.0):
    slide()(pair, share)
    with torch.no_grad():
        print(f"lam {share:4}: two less one, up to {(pair(maps) - one(maps)).abs().max():.5f}")
almost = deepcopy(slid)
slide()(almost, 0.99)
try:
    fuse(almost)
except NotExact as refusal:
    print(refusal)

# %%
torch.manual_seed(page.seed)
turned = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3, padding=1)).double()
noise = torch.randn(1, 4, 14, 14, dtype=torch.float64)
with torch.no_grad():
    gap = (turned(noise) - ask(turned, 4)(noise)).abs().amax((0, 1))
print(f"1×1 first, then 3×3: inside {gap[1:-1, 1:-1].max():.0e}, on the ring {gap.max():.2f}")
try:
    merge(*turned)
except NotExact as refusal:
    print(refusal)

# %% [markdown]
# ## Recap
#
# - At $\lambda = 1$, and only there, two convolutions are one; the error of merging earlier is $1 - \lambda$ times that of a ReLU.
# - Exact is a matter of where the zeros stand, not of algebra: all padding before the first convolution, or a 1×1 first that has no bias.
# - A network works where its training ended. Forcing $\lambda$ does not fuse a network, it makes another one.
# - Whether the slide buys anything is a question of what else could have done it:

# %%
page.evidence.say(*pairs, ("slide-hard", "slide"), "forced-bn")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is the error of merging too early proportional to 1 − λ?</summary>a(z) − z = (1 − λ)(relu(z) − z), and what follows, W₂, is linear. At 0.99 a hundredth of the error is left, and nowhere before 1 none.</details>
# <details><summary>2. Why is 3×3 then 1×1 the safe order?</summary>A 1×1 needs no padding, so it never reads a zero that the first convolution did not compute. In the other order the 3×3 pads with 0 where one convolution would see the bias.</details>
# <details><summary>3. A linear pair is one convolution. Why can it train differently from one?</summary>A step on W₁ and W₂ moves their product by other amounts than a step on the product, and a BatchNorm stands between. What it can be is the same; how it gets there is not.</details>
# <details><summary>4. Which single assertion would have found the author's bug?</summary><code>act(x, identity) == x</code>, with numbers below 0 in x. Checking that the input is unchanged finds it as well.</details>
# <details><summary>5. Would the forced network do better if λ went to 1 slowly, without training?</summary>No. Nothing is remembered on the way: the network at λ = 1 is the same, however it got there. Only training on the way makes a difference.</details>
#
# What the experiments say of the claims behind this page, with intervals, controls and every run:
#
# <!-- claims -->
#
# **Try next:** `lam = 1.0`: start the panel where both networks are fused. `profile = "full"`: does a longer slide close a gap?
#
# **References:** the article, "ReduceNet, corrected" · Chen et al., VanillaNet, arXiv:2305.12972 · Guo et al., ExpandNets, arXiv:1811.10495 ·
# Fu et al., DepthShrinker, arXiv:2206.00843 · Dror et al., Layer Folding, arXiv:2106.09309
#
# <!-- next -->

# %% tags=["closing"]
page.close()
