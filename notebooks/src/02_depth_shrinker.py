# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2 · Which ReLUs can go?
#
# > A ReLU is all that keeps two convolutions two. Find out which ones a trained network can spare, and whether a mask must be learned to know.
# >
# > 中文：两个卷积之间只隔着一个 ReLU；看看训练好的网络能省掉哪些，又是否真要学一个掩码才知道。
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
keep: int = 1  # how many of the six ReLUs inside the blocks stay: 0 to 5
epochs: int = 3  # of the large network's training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer
retrain: bool = False  # True: train here what is shipped

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page(
    "masks", seed=seed, keep=keep, epochs=epochs, dataset=dataset, profile=profile, retrain=retrain
)
page

# %% tags=["panel"]
net = page.network("six-relus")
page.panel("mask", net=net, keep=keep)

# %% [markdown]
# ## Predict
#
# The network above was trained with all six ReLUs. All six go, so that every pair of convolutions is one. No weight moves; only the BatchNorm
# statistics are measured anew.

# %%
from reducenet import accuracy, linearise, recalibrate


def right(net):  # per cent of the validation images
    return 100 * accuracy(net, page.data, page.data.val)


few = {"images": min(2000, len(page.data.train.labels))}

# %% tags=["predict"]
from reducenet.course.prediction import between, predict

whole, bare = right(net), right(linearise(net))
again = right(recalibrate(linearise(net), page.data, **few))
predict(
    "Of the share of right answers that goes with the six ReLUs, how much do the BatchNorms alone bring back?",
    ["next to nothing", "less than half", "more than half", "nearly all"],
    right=between((again - bare) / max(whole - bare, 1e-9), 0.1, 0.5, 0.9),
    measured=f"{whole:.1f} % with all six, {bare:.1f} % without, {again:.1f} % once the BNs are measured anew.",
)

# %% [markdown]
# Much of what a ReLU did was to set a scale. So the choice of a mask is about what is left: which ReLUs computed something that no
# straight line can?
#
# ## How does a switch learn?
#
# **DepthShrinker** puts a switch where each ReLU stands. The forward pass is hard: the $k$ blocks with the highest scores have their ReLU, the
# others have nothing. A switch has no slope, so the backward pass pretends: the score hears how much the loss would change if a little more of
# the ReLU were let in. That is a *straight-through* gradient.

# %%
from reducenet.course.figures import Beside
from reducenet.course.panels.mask.drawing import gate

equation = (
    r"\begin{aligned} y &= \begin{cases} \mathrm{relu}(x) & s \text{ among the } k \text{ highest} \\ x & \text{else} \end{cases} \\"
    r" \frac{\partial L}{\partial s} &:= \sigma'(s)\,\Big\langle \frac{\partial L}{\partial y},\ \mathrm{relu}(x) - x \Big\rangle \end{aligned}"
)
Beside(*gate(), equation)

# %% [markdown]
# ## Derive it
#
# One term does it: $p - p$, of which one $p$ is held still. It adds nothing forward, and has the slope of $p$ backward. The sigmoid has a slope
# everywhere; we will see below what a clamp does here.

# %% tags=["derive"]
import torch
from torch import nn


class MyGate(nn.Module):
    def __init__(self, act, score):
        super().__init__()
        self.act, self.score, self.kept = act, nn.Parameter(score), True

    def forward(self, x):
        on, p = self.act(x), torch.sigmoid(self.score)
        return (on if self.kept else x) + (p - p.detach()) * (on - x).detach()


# %% [markdown]
# Who is kept is looked up before every step: the score moves, so does its rank.


# %%
def keep_highest(net, progress=0):  # `fit` calls it before every step
    gates = [module for module in net.modules() if isinstance(module, MyGate)]
    order = torch.stack([one.score for one in gates]).argsort(descending=True)
    for rank, i in enumerate(order):
        gates[i].kept = rank < keep
    return net


# %% [markdown]
# Put into the trained network at the package's scores, your gates give its logits, and every score its gradient.

# %%
from reducenet.methods.depthshrinker import Gate, with_gates
from reducenet.methods.removal import groups
from reducenet.moves.surgery import replace

blocks = groups(net, "page")  # block -> the names of the activations inside it
acts = [name for inside in blocks.values() for name in inside]
theirs = with_gates(net, blocks, keep, seed)
starts = [module.score.detach().clone() for module in theirs.modules() if isinstance(module, Gate)]


def gated(kind, starts):
    put = lambda name, act: kind(act, starts[acts.index(name)])  # noqa: E731
    return keep_highest(replace(net, lambda name, _: name in acts, put))


# %%
from torch.nn.functional import cross_entropy


def scores(net):
    return [p for name, p in net.named_parameters() if name.endswith("score")]


def heard(net):  # what the scores hear of one batch
    cross_entropy(net(x), y).backward()
    return torch.stack([score.grad for score in scores(net)])


# %%
x, y = page.data.normalise(page.data.train.images[:64]), page.data.train.labels[:64]
mine = gated(MyGate, starts)
torch.testing.assert_close(mine(x), theirs(x), rtol=0, atol=1e-5)
torch.testing.assert_close(heard(mine), heard(theirs), rtol=1e-3, atol=1e-6)
print("same logits, same gradients:", [f"{score.grad:+.4f}" for score in scores(mine)])

# %% [markdown]
# Now they learn, weights and scores together, for one epoch on a copy. The mask that comes out is the one that is used from here on.

# %%
from IPython.utils.io import capture_output

from reducenet import fit, search_mask

quietly = {"lr": 0.05, "epochs": 1, "seed": seed, "device": page.device, "progress": False}
searched = keep_highest(fit(gated(MyGate, starts), page.data, hooks=[keep_highest], **quietly).net)
stays = {name: searched.get_submodule(name).kept for name in acts}
gone = [name for name in acts if not stays[name]]
with capture_output():  # its progress bar
    found = search_mask(net, page.data, keep=keep, seed=seed, device=page.device)
assert found[-1]["linearise"]["at"] == gone, "the package chooses another mask"
for name, score in zip(acts, scores(searched), strict=True):
    print(f"{name:16s} score {score.item():+.3f}  {'stays' if stays[name] else 'goes'}")

# %% [markdown]
# ## What happened?
#
# The search ends with a list of names. `linearise` takes those ReLUs out, `fuse` merges what they kept apart: the same function with fewer
# convolutions.

# %%
from reducenet import fuse, macs, settle

masked = linearise(settle(net, [name for name in acts if stays[name]]), gone).eval()
deployed = fuse(masked)
torch.testing.assert_close(deployed(x), masked(x), rtol=0, atol=1e-4)
for name, one in {"trained": fuse(net, strict=False), "masked": deployed}.items():
    convs = sum(isinstance(module, nn.Conv2d) for module in one.modules())
    print(f"{name:8s}{convs:4d} convs {macs(one, page.shape):9,} multiply-adds an image")

# %% [markdown]
# Did the search find a good one? With six blocks nobody has to guess: every mask that keeps as many can be tried. No weight moves, the BNs
# are measured anew.

# %% tags=["predict"]
from itertools import combinations

tried = {}
for some in combinations(acts, keep):
    one = linearise(net, [name for name in acts if name not in some])
    tried[some] = right(recalibrate(one, page.data, **few))
learned = tried[tuple(name for name in acts if stays[name])]
better = sum(value > learned for value in tried.values())
predict(
    f"Of the {len(tried)} masks that keep {keep}, the learned one is …",
    ["the best", "in the better half", "in the worse half"],
    right=between(better / len(tried), 1e-9, 0.5),
    measured=f"{learned:.1f} %, with {better} above it; all lie between {min(tried.values()):.1f} and {max(tried.values()):.1f} %.",
)

# %% [markdown]
# We expected the choice to matter. In the panel, keep three and set *and then* to each of its three positions: as
# they are the masks lie far apart, with the BNs measured anew they close up, and after one epoch more they are nearly level, whoever chose.
# What a mask is worth before training says little about what it is worth after.
#
# ## Your turn
#
# Difficulty ●●○○○ · 10 minutes. Write the mask itself: exactly `k` ones where `scores` are largest, zeros elsewhere, and a gradient that goes
# to the scores as it comes, no sigmoid between.


# %% tags=["exercise"]
def top_k(scores, k):  # [n] -> [n]
    return ...


# %% tags=["check"]
from reducenet.course.exercises import depth as exercises

exercises.top_k(top_k)

# %% [markdown]
# <details><summary>Hint</summary><code>scores.topk(k).indices</code> says where the ones are. Then the trick of the gate: add the scores, and take the detached scores away.</details>
# <details><summary>Solution</summary>
#
# ```python
# def top_k(scores, k):
#     hard = torch.zeros_like(scores)
#     hard[scores.topk(k).indices] = 1
#     return (hard - scores).detach() + scores
# ```
#
# </details>
#
# In our block the pair is conv3 then conv1, and merging is exact. MobileNet's blocks, and two 3×3 in a row, are another matter: between the two,
# the second conv pads with zeros, where a merged conv sees what the first computes beyond the border. The way out is to pad once, in front.
#
# Difficulty ●●●○○ · 15 minutes. Two convs with nothing between them: return the pair with all the padding on the first, so that the images keep
# their size and merging is exact.


# %% tags=["exercise"]
def pad_first(first, second):  # two nn.Conv2d -> two nn.Conv2d
    return ...


# %% tags=["check"]
exercises.pad_first(pad_first)

# %% [markdown]
# <details><summary>Hint</summary>How many pixels of the image is one pixel between the two convs, if the first has a stride? Both axes.</details>
# <details><summary>Solution</summary>
#
# ```python
# def pad_first(first, second):
#     first.padding = tuple(p + q * s for p, q, s in zip(first.padding, second.padding, first.stride))
#     second.padding = (0, 0)
#     return first, second
# ```
#
# </details>
#
# ## Does it pay?
#
# The article says that a hard cut is enough, and that a mask need not be learned. Then a *random* mask, trained on for as long, has to be as
# good. And a plain student that may spend all that the large network, the search and the training after it cost has to be worse, or the
# whole way was for nothing.

# %%
arms = {
    "learned": gone,
    "random": search_mask(net, page.data, keep=keep, by="random", seed=seed)[-1]["linearise"]["at"],
}
after = page.training | page.evidence.study.arms["learned"].chain[1]["fit"]  # as in the study


def live(gone):
    trained_on, _ = fit(linearise(net, gone), page.data, **after, nth_fit=1)
    return 100 * accuracy(trained_on, page.data, page.data.test)


live = {arm: live(gone) for arm, gone in arms.items()} if page.as_recorded and keep == 1 else {}
pairs = [("learned", arm) for arm in ("random", "greedy", "none", "plain-long")]
page.evidence.figure(*pairs, live=live)

# %%
page.evidence.say(("learned", "random"), ("learned", "greedy"))

# %% [markdown]
# What could a choice be worth at most? These are all masks that keep one, every one trained on alike, means over the seeds. Every chooser
# ends at one of the six.

# %%
for arm in (
    "none",
    *(f"only-{i}" for i in range(1, 7)),
    "learned",
    "greedy",
    "magnitude",
    "random",
    "wide",
):
    print(f"{page.evidence.study.label(arm):22s}{page.evidence.mean(arm)}")

# %% [markdown]
# ## Break it
#
# DepthShrinker's code has a clamp where ours has a sigmoid, and starts its masks at the clamp's end. In this version of torch a clamp has no
# slope at its ends.


# %%
class Clamped(MyGate):
    def forward(self, x):
        on, p = self.act(x), self.score.clamp(0, 1)
        return (on if self.kept else x) + (p - p.detach()) * (on - x).detach()


for start in (1.0, 0.5):
    clamped = gated(Clamped, [torch.tensor(start)] * len(acts))
    stuck, _ = fit(clamped, page.data.subset(500), hooks=[keep_highest], **quietly)
    print(f"all start at {start}:", [f"{score.item():.4f}" for score in scores(stuck)])

# %% [markdown]
# Those that start at the end never move, so all scores stay equal, and how a sort treats equals decides. Nothing warns: the weights learn.
#
# And padding that stays on the second conv: one conv with the merged kernel is right inside and wrong on the ring.

# %%
from reducenet.algebra.borders import padded_first
from reducenet.algebra.exact import NotExact, merge

first, second = (nn.Conv2d(4, 4, 3, padding=1).double() for _ in range(2))
maps = torch.randn(8, 4, 7, 7, dtype=torch.float64)  # as large as the maps of the first stage
one = merge(*padded_first(first, second))
wrong = (one(maps) - second(first(maps))).abs()
print(f"inside up to {wrong[..., 1:-1, 1:-1].max():.0e}, on the ring up to {wrong.max():.2f}; "
      f"the ring is {1 - 5 * 5 / 49:.0%} of the pixels")  # fmt: skip
try:
    merge(first, second)
except NotExact as refusal:
    print(refusal)

# %% [markdown]
# ## Recap
#
# - Without the ReLU between them two convs are one, exactly, if the padding stands in front.
# - A hard switch learns by a straight-through gradient, and only where the function behind it has a slope.
# - Much of what six ReLUs were worth is a scale, and comes back without training a weight. What is left to choose, the table of all masks says.
# - Whether learning the mask is worth its cost is a question for its controls:

# %%
page.evidence.say(("learned", "random"), ("learned", "none"), ("learned", "plain-long"))

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why is the gradient of a score zero where all inputs of the ReLU are positive?</summary>Then relu(x) − x is zero: the ReLU does nothing there, and whether it stays makes no difference.</details>
# <details><summary>2. Both forward passes are hard. Why does the gradient of a score not depend on whether its ReLU is kept now?</summary>It is multiplied by relu(x) − x in both cases, and the switch is not in that term. So who is out can come back. What does depend on it is the gradient that arrives from behind.</details>
# <details><summary>3. Each pair becomes a conv of less than half its multiply-adds. Why do those of the network not halve?</summary>The conv behind each pair, the stem and the shortcuts stay as they are.</details>
# <details><summary>4. Is a mask that keeps no ReLU a linear network?</summary>No. Behind each pair and behind each sum a ReLU stays. Only those inside the pairs go.</details>
# <details><summary>5. What does pad-first change, and when must it be done?</summary>The values on the ring: the second conv now reads what the first computes beyond the border, not zeros. Before the training that follows, so that this training makes up for it.</details>
#
# What the experiments say of the claims behind this page, with intervals, controls and every run:
#
# <!-- claims -->
#
# **Try next:** `keep = 3`, twenty masks: is the learned one still where it was? `keep = 0`: what would you save by not searching at all?
#
# **References:** the article, "ReduceNet, corrected" · Fu et al., DepthShrinker, arXiv:2206.00843 · Kim et al., arXiv:2301.12187 ·
# Bengio et al., straight-through estimators, arXiv:1308.3432
#
# <!-- next -->

# %% tags=["closing"]
page.close()
