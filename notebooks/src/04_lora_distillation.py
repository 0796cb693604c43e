# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · A branch that folds away
#
# > Freeze the small network and let a linear branch learn from the large one; then fold it into the conv beside it. Can it carry knowledge?
# >
# > 中文：冻结小网络，让一条线性旁支向大网络学习，再把旁支并入旁边的卷积：它带得动大网络的知识吗？
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
expansion: int = 2  # the side branch's inner width over planes: 1, 2, 4 or 8
rank: int = 32  # directions of every change that the panel keeps at first
temperature: float = 4.0  # of the soft labels, in training and in the panel
width: int = 8  # planes of the first stage
epochs: int = 3  # of each training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer
retrain: bool = False  # True: train here what is shipped

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page("side", seed=seed, expansion=expansion, rank=rank, temperature=temperature, width=width,
                 epochs=epochs, dataset=dataset, profile=profile, retrain=retrain)  # fmt: skip
page

# %% tags=["panel"]
from reducenet import attach, drop_branch, fit, freeze, kd

shipped = page.as_shipped and (expansion, temperature) == (2, 4.0)
teacher = page.network("teacher-e4")
student, how = drop_branch(teacher), {"lr": 0.05, "loss": kd(teacher, temperature=temperature)}
rest = ["stem.*", "classifier", "conv3", "*.shortcut.*", "*.bn3.*", "*.branch2.1.*"]


def distilled(net):
    return fit(net, page.data, **page.training | how, nth_fit=1)[0].eval()


side = page.network("side") if shipped else distilled(attach(freeze(student, "all"), expansion))
control = page.network("side-conv") if shipped else distilled(freeze(student, rest))
page.panel("fold", teacher=teacher, side=side, control=control, rank=rank, temperature=temperature)

# %% [markdown]
# ## Predict
#
# Both networks start from the same dropped student and see the same soft labels for as many steps. In one, everything is frozen and a side
# branch learns; it is wide enough to become any kernel. In the other nothing is attached: those convs are trained themselves.

# %% tags=["predict"]
from reducenet import accuracy
from reducenet.course.prediction import between, predict

branch, conv = (100 * accuracy(net, page.data, page.data.val) for net in (side, control))
predict(
    "Against the convs trained themselves, the side branch gets …",
    ["over 3 points fewer images right", "about as many (within 3 points)", "over 3 points more"],
    right=between(branch - conv, -3, 3),
    measured=f"{branch:.1f} % with the side branch, {conv:.1f} % for the convs themselves, of the validation images.",
)

# %% [markdown]
# ## What is a side branch?
#
# Beside a conv with kernel $W$ stand two more: a 3×3 that makes $m$ channels, kernel $A$, and a 1×1 that makes the conv's own again, kernel
# $B$. Nothing stands between them, so what they do together is linear, and a linear map of images that looks the same everywhere is a conv.

# %%
from reducenet.course.figures import Beside
from reducenet.course.panels.fold.drawing import side_block

equation = (
    r"\begin{aligned} y &= W * x + B * (A * x) = (W + \Delta W) * x \\"
    r" \Delta W_{oikl} &= \textstyle\sum_m B_{om} A_{mikl} \end{aligned}"
)
Beside(*side_block(expansion), equation)

# %% [markdown]
# $B$ starts at zero: at first the branch adds nothing. LoRA makes $m$ small, to save parameters. The article turns that round and *expands*,
# since the branch will be gone anyway.
#
# ## Derive it
#
# No algebra is needed to fold. A conv is known by what it makes of an **impulse**, a single 1 among zeros: its kernel, flipped. So send
# one impulse for each input channel through both convs, read the kernel off, and add it. From here on it is *your* folded network that runs.

# %%
import torch
import torch.nn.functional as F
from torch import nn


# %% tags=["derive"]
def my_fold(conv):
    """One plain conv in place of a conv and its side branch."""
    weight, pair = conv.parametrizations.weight.original, conv.parametrizations.weight[0]
    (_, inside, k, _), every = weight.shape, range(weight.shape[1])
    impulses = weight.new_zeros(inside, inside, 2 * k - 1, 2 * k - 1)
    impulses[every, every, k - 1, k - 1] = 1
    seen = F.conv2d(F.conv2d(impulses, pair.first), pair.second[..., None, None])
    plain = nn.Conv2d(inside, len(weight), k, conv.stride, conv.padding, bias=False).to(weight)
    plain.weight.data = (weight + seen.flip(2, 3).transpose(0, 1)).detach()
    return plain


# %%
from copy import deepcopy

from reducenet import fold
from reducenet.moves.side import has_side_branch
from reducenet.moves.surgery import replace


def folded_by_me(net):
    return replace(net, lambda _, part: has_side_branch(part), lambda _, conv: my_fold(conv))


mine, double = folded_by_me(side), deepcopy(side).double()
x = page.data.normalise(page.data.val.images[:256])
torch.testing.assert_close(folded_by_me(double)(x.double()), fold(double)(x.double()), rtol=0, atol=1e-10)  # fmt: skip
print(f"{100 * accuracy(mine, page.data, page.data.val):.1f} % right, folded by you")

# %% [markdown]
# ## How much does the fold have to carry?
#
# $\Delta W$, written as a matrix of outputs by inputs times taps, is a sum of directions, each with its **singular value**. The branch is
# so wide that none is forbidden. How many did training use? Cut every change to its largest directions, and see what the network knows.

# %% tags=["predict"]
from reducenet.course.panels.fold.bench import Bench

bench = Bench(teacher, side, control, page.data)  # its changes: what training added to each kernel
ranks = [*bench.ranks[:-1:2], bench.ranks[-1]]
cut = {r: bench.changed(bench.changes, r) for r in ranks}
found = {r: 100 * accuracy(net, page.data, page.data.val) for r, net in cut.items()}
predict("Which rank is the first to come within 3 points of the whole change?", [f"{r}" for r in found],
        next(i for i, right in enumerate(found.values()) if right > branch - 3),
        "; ".join(f"rank {r}: {right:.1f} %" for r, right in found.items()))  # fmt: skip

# %% [markdown]
# ## What does a product do to training?
#
# The gradient $G$ moves a conv by $-\eta G$. It moves a *product* of factors otherwise: what a factor already has is what it helps to grow.
# So large directions grow first, and small ones late. That is all a wide linear branch does: it is a way to train, not a thing to become.

# %%
b, a, g = (torch.randn(shape, dtype=torch.float64) for shape in ((8, 16), (16, 72), (8, 72)))
step = 1e-5
moved = (b - step * g @ a.T) @ (a - step * b.T @ g) - b @ a  # gradient descent on each factor
said = -step * (b @ b.T @ g + g @ a.T @ a)
rest_of_it = ((moved - said).norm() / said.norm()).item()
print(f"B A moves by -step (B Bᵀ G + G Aᵀ A), but for {rest_of_it:.0e} of it")

# %% [markdown]
# So what did training use? Count directions by their squares over the largest square: one that is small counts little.


# %%
def directions(change):
    values = torch.linalg.svdvals(change).square()
    return (values.sum() / values[0]).item()


print(f"{'directions in the change of':28s}{'branch':>8s}{'conv itself':>13s}{'at most':>9s}")
for name, one in bench.changes.items():
    other = bench.control_changes[name]
    print(f"{name:28s}{directions(one):8.1f}{directions(other):13.1f}{min(one.shape):9d}")

# %% [markdown]
# ## Your turn
#
# Difficulty ●●○○○ · 10 minutes. Fold by the formula instead: return the kernel and the bias of the one conv. `weight` is
# [out, in, k, k], `bias` [out], `first` [m, in, k, k], `second` [out, m, 1, 1]; what the branch makes is multiplied by `scale`.


# %% tags=["exercise"]
def folded(weight, bias, first, second, scale):
    return ...


# %% tags=["check"]
from reducenet.course.exercises import lora as exercises

exercises.fold(folded)

# %% [markdown]
# <details><summary>Hint</summary><code>torch.einsum</code> takes the formula as it stands, once the two trailing 1s of <code>second</code> are gone.</details>
# <details><summary>Solution</summary>
#
# ```python
# def folded(weight, bias, first, second, scale):
#     change = torch.einsum("om,mikl->oikl", second[:, :, 0, 0], first)
#     return weight + scale * change, bias
# ```
#
# </details>
#
# ## What is it taught?
#
# Not only labels. At a **temperature** $T$ the teacher's probabilities soften, and show which wrong answers it finds less wrong:
#
# $$ L = (1 - w)\,\mathrm{CE}(z, y) + w\,T^2\,\mathrm{KL}\big(\mathrm{softmax}(z_t / T)\,\|\,\mathrm{softmax}(z / T)\big) $$
#
# Move the temperature in the panel. The gradient of the KL shrinks as $1 / T^2$; the factor makes up for it, so that $w$ keeps its meaning.
#
# Difficulty ●●●○○ · 15 minutes. Write that loss, one number for a batch: KL summed over classes, averaged over images.


# %% tags=["exercise"]
def distillation(
    student, teacher, labels, temperature, weight
):  # logits [N, classes] twice, labels [N]
    return ...


# %% tags=["check"]
exercises.distil(distillation)

# %% [markdown]
# <details><summary>Hint</summary><code>F.kl_div(log q, p)</code> is KL(p || q), and its default reduction is not the one asked for.</details>
# <details><summary>Solution</summary>
#
# ```python
# def distillation(student, teacher, labels, temperature, weight):
#     q, p = F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1)
#     soft = temperature**2 * F.kl_div(q, p, reduction="batchmean")
#     return (1 - weight) * F.cross_entropy(student, labels) + weight * soft
# ```
#
# </details>
#
# ## Does it pay?
#
# The article hopes for more capacity to learn. The control that decides is the conv itself, trained for as long, at the same rate and at
# twice of it. Beside it stand two things that train nothing, a measurement of the BNs and one linear solve, and a plain student that may
# spend all that teacher and branch have cost.

# %%
live = {}
if page.as_recorded and (expansion, temperature) == (2, 4.0):
    own = distilled(attach(freeze(student, "all"), expansion)) if shipped else side
    live = {"lora": own, "conv": control, "drop": student}
    live = {arm: 100 * accuracy(net, page.data, page.data.test) for arm, net in live.items()}
asked = [("lora", arm) for arm in ("conv", "conv-fast", "drop-bn", "plain-long")]
page.evidence.figure(*asked, live=live)

# %%
page.evidence.say(*asked)

# %% [markdown]
# Expand first, as the article does, or reduce first, as LoRA does? Soft labels, or hard ones alone? What if the BNs are put on their scale
# before the branch starts? And what if nothing is trained, but the best linear imitation of the teacher solved for in closed form?

# %%
page.evidence.say(("lora", "lora-rank"), ("lora", "lora-ce"), "lora-bn", "ridge")

# %% [markdown]
# That imitation says how much a single conv can be at all of what the teacher's two branches make together, block by block:

# %%
from reducenet.methods.ridge import fit_quality

quality = fit_quality(student, page.data, teacher=teacher, images=200)
print("; ".join(f"{name}: {100 * r2:.0f} %" for name, r2 in quality.items()), "of the variance")

# %% [markdown]
# ## Break it
#
# A branch folds because nothing stands between its convs. What is put there is refused, with the reason:

# %%
from reducenet.algebra.exact import NotExact, merge
from reducenet.words import MoveError

conv3 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
tried = {
    "a ReLU inside": lambda: fold(attach(student, lam=0.0)),
    "a BN inside, in train mode": lambda: fold(attach(student, bn=True).train()),
    "conv3, then conv3 with padding": lambda: merge(conv3, conv3),
    "conv1 with a bias, then conv3 with padding": lambda: merge(nn.Conv2d(8, 8, 1), conv3),
}
for what, attempt in tried.items():
    try:
        print(what, "folds:", attempt())
    except (NotExact, MoveError) as error:
        print(f"{what}: {error}")

# %% [markdown]
# And the loss breaks without a word: `nn.KLDivLoss()` averages over classes as well, so the same $w$ means less, the more classes there are.

# %%
import warnings

p, q = (F.log_softmax(net(x).detach() / temperature, 1) for net in (teacher, student.eval()))
with warnings.catch_warnings(action="ignore"):  # torch says itself that its "mean" is none
    short, right = (F.kl_div(q, p, reduction=r, log_target=True) for r in ("mean", "batchmean"))
print(f"batchmean {right:.3f}, mean {short:.3f}: {right / short:.1f} times smaller")

# %% [markdown]
# ## Recap
#
# - A linear branch folds exactly into the conv beside it: $\Delta W = B A$. After training it costs nothing.
# - Wide enough, it forbids no kernel. It bends the *way* there: few, large directions first. That is an optimiser.
# - So the conv itself is its control, and this is what the rows say:

# %%
page.evidence.say(("lora", "conv"), "lora")

# %% [markdown]
# ## Questions
#
# <details><summary>1. From which width on can the branch become any kernel?</summary>From min(out, 9 · in): expansion 1 here. Expansion 2 or 8 adds ways to get there, and no kernel.</details>
# <details><summary>2. Why does one factor start at zero, and why not both?</summary>With B = 0 the branch starts as nothing and B still learns, since its gradient goes through A. With both at zero neither gets a gradient, ever.</details>
# <details><summary>3. The frozen student has few weights to train. Why does a step get only a little cheaper?</summary>Gradients must still pass back through everything behind the first branch, and the teacher runs along. Only the weights' own gradients are saved.</details>
# <details><summary>4. Is the soft part zero where student and teacher agree? Is the cross entropy with soft labels?</summary>The KL is. The cross entropy is larger by the teacher's entropy, which no student can change: the gradients are the same.</details>
# <details><summary>5. A BN inside the branch folds, but only in eval mode. Why?</summary>In eval mode it is a fixed scale and shift. In train mode it depends on the other images of the batch, and no conv does.</details>
#
# What the experiments say of the claims behind this page, with intervals, controls and every run:
#
# <!-- claims -->
#
# **Try next:** `expansion = 8`: do more middle channels make fewer directions? `temperature = 1.0`: what do nearly hard labels leave of the
# change? In the panel, rank 4: which images turn wrong?
#
# **References:** the article, "ReduceNet embraces LoRA for distillation fine-tuning" · Hu et al., LoRA, arXiv:2106.09685 · Hinton et al.,
# arXiv:1503.02531 · Guo et al., ExpandNets, arXiv:1811.10495 · Arora et al., "Implicit regularization in deep matrix factorization", arXiv:1905.13655
#
# <!-- next -->

# %% tags=["closing"]
page.close()
