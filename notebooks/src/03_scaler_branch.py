# %% [markdown]
# # 3 · A branch you can switch off
#
# > A large network that loses a branch *is* the small network. Switch the branch off, and find out what is lost with it.
# >
# > 中文：大网络去掉一条分支，就成了小网络；关掉这条分支，看看究竟丢了什么。
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
expansion: int = 4  # branch1's inner width over planes: 1, 2, 4 or 8
scaler: float = 1.0  # factor on branch1 in training, and where the panel starts: 0 to 1
width: int = 8  # planes of the first stage
epochs: int = 3  # of each training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer
retrain: bool = False  # True: train here what is shipped

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page("quick", seed=seed, expansion=expansion, scaler=scaler, width=width, epochs=epochs,
                 dataset=dataset, profile=profile, retrain=retrain)  # fmt: skip
page

# %% tags=["panel"]
shown = (1, 2, 4, 8) if page.as_shipped else (expansion,)
teachers = {e: page.network(f"teacher-e{e}", scaler=scaler) for e in shown}
page.panel("fade", teachers=teachers, scaler=scaler, expansion=expansion)

# %% [markdown]
# ## Predict
#
# The network above was trained with the whole branch. Take the branch away, train nothing.

# %% tags=["predict"]
from reducenet import accuracy, drop_branch
from reducenet.course.prediction import between, predict

teacher = teachers[expansion]
dropped = drop_branch(teacher)
large, small = (100 * accuracy(net, page.data, page.data.val) for net in (teacher, dropped))
predict("Without branch1 the share of images that are right will …",
        ["fall to about chance", "fall by more than half", "fall by less than half", "stay within 5 points"],
        between(small, 200 / page.classes, large / 2, large - 5),
        f"{large:.1f} % with the branch, {small:.1f} % without; chance is {100 / page.classes:.0f} %.")  # fmt: skip

# %% [markdown]
# ## What does the block compute?
#
# Two branches look at the same input. **branch1** expands with a 3×3 convolution and reduces with a 1×1: it is non-linear inside. **branch2**
# is one narrow 3×3 convolution. The *scaler* $s$ says how much of branch1 is let in.

# %%
from reducenet.course.figures import Beside
from reducenet.course.panels.fade.drawing import scaler_block

equation = (
    r"\begin{aligned} h &= s \cdot \mathrm{branch}_1(x) + \mathrm{branch}_2(x) \\"
    r" y &= \mathrm{relu}(\mathrm{bn}_3(\mathrm{conv}_3(h)) + \mathrm{shortcut}(x)) \end{aligned}"
)
Beside(*scaler_block(1.0, expansion), equation)

# %% [markdown]
# With $s = 1$ this is the **teacher**. With $s = 0$ branch1 adds nothing and can be deleted: the **student**, an ordinary residual block.
# Nothing is converted, and both fit into one file.
#
# ## Derive it
#
# The names are the article's, so the weights of the trained network fit into *your* block. From here on, yours is the one that runs.

# %%
import torch
from torch import nn


def conv_bn_relu(c_in, c, size=3, stride=1):
    return [nn.Conv2d(c_in, c, size, stride, size // 2, bias=False), nn.BatchNorm2d(c), nn.ReLU()]


def shortcut(c_in, c, stride):
    return conv_bn_relu(c_in, c, 1, stride)[:2] if stride != 1 or c_in != c else []


# %% tags=["derive"]
class MyBlock(nn.Module):
    def __init__(self, c_in, c, stride, expansion, scaler):
        super().__init__()
        self.scaler, wide = scaler, expansion * c
        self.branch1 = nn.Sequential(
            *conv_bn_relu(c_in, wide, 3, stride), *conv_bn_relu(wide, c, 1)
        )
        self.branch2 = nn.Sequential(*conv_bn_relu(c_in, c, 3, stride))
        self.conv3, self.bn3, _ = conv_bn_relu(c, c)
        self.shortcut = nn.Sequential(*shortcut(c_in, c, stride))

    def forward(self, x):  # [N, c_in, H, W] -> [N, c, H / stride, W / stride]
        h = self.scaler * self.branch1(x) + self.branch2(x)
        return torch.relu(self.bn3(self.conv3(h)) + self.shortcut(x))


# %%
from reducenet import ScalerBlock
from reducenet.moves.surgery import replace


def as_mine(name, block):
    conv, wide, c = block.branch2[0], block.branch1[0].out_channels, block.branch2[0].out_channels
    mine = MyBlock(conv.in_channels, c, conv.stride[0], wide // c, block.scaler)
    mine.load_state_dict(block.state_dict())
    return mine.eval()


mine, x = replace(teacher, ScalerBlock, as_mine), page.data.normalise(page.data.val.images[:64])
torch.testing.assert_close(mine(x), teacher(x), rtol=0, atol=1e-4)
print("the trained network, in your blocks: the same logits")

# %% [markdown]
# ## What happened when the branch went?
#
# Set the scaler of *your* blocks to 0, and nothing else.

# %%
for block in mine.modules():
    if isinstance(block, MyBlock):
        block.scaler = 0.0
torch.testing.assert_close(mine(x), dropped(x), rtol=0, atol=1e-4)
print(
    f"your teacher without branch1: {100 * accuracy(mine, page.data, page.data.val):.1f} % of the validation images"
)

# %% [markdown]
# conv3 and bn3 were trained on a *sum*. One term is gone, and every number behind it is off its scale. So which is it: is the knowledge
# gone, or only the scale? BatchNorm remembers a scale, its running mean and variance, and these can be measured again. No weight moves.

# %%
from reducenet import freeze, recalibrate


def measured_anew(*which):
    """Accuracy when only the BNs whose name has one of these parts are measured again."""
    names = [name for name, module in dropped.named_modules() if isinstance(module, nn.BatchNorm2d)]
    still = [f"{name}.running_*" for name in names if not any(part in name for part in which)]
    net = recalibrate(
        freeze(dropped, still) if still else dropped,
        page.data,
        images=min(4000, len(page.data.train.labels)),
    )
    return 100 * accuracy(net, page.data, page.data.val)


# %% tags=["predict"]
parts = {
    "bn3, behind the sum": ["bn3"],
    "branch2's": ["branch2"],
    "the shortcuts'": ["shortcut"],
    "all of them": [""],
}
found = {name: measured_anew(*which) for name, which in parts.items()}
best = max(list(parts)[:3], key=found.get)
predict("Which BatchNorms, measured again alone, bring most of it back?", list(parts)[:3], list(parts).index(best),
        "; ".join(f"{name} {value:.1f} %" for name, value in found.items()) + f"; as dropped {small:.1f} %.")  # fmt: skip

# %% [markdown]
# What comes back without any training was never lost: it was only on another scale, and most of it in the one BN that saw the sum. What
# stays away is what branch1 knew and branch2 does not. Press *Re-estimate BN* in the panel and watch a wrong answer turn.
#
# ## Your turn
#
# Difficulty ●●○○○ · 10 minutes. Write what a `ScalerBlock` computes once branch1 is gone: `branch2`, `conv3`, `bn3`, `shortcut`, `post`.


# %% tags=["exercise"]
def student_forward(block, x):
    return ...


# %% tags=["check"]
from reducenet.course.exercises import scaler as exercises

exercises.student_forward(student_forward)

# %% [markdown]
# <details><summary>Hint</summary>Take <code>forward</code> of <code>MyBlock</code> with scaler 0. The package calls the final ReLU <code>post</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def student_forward(block, x):
#     return block.post(block.bn3(block.conv3(block.branch2(x))) + block.shortcut(x))
# ```
#
# </details>
#
# Difficulty ●●●○○ · 15 minutes. Re-estimate a BN by hand: its mean becomes the average of the means of `batches`, its variance that of their
# unbiased variances. Return the BN.


# %% tags=["exercise"]
def recalibrated(bn, batches):  # batches: list of [N, C, H, W]
    return ...


# %% tags=["check"]
exercises.recalibrated(recalibrated)

# %% [markdown]
# <details><summary>Hint</summary><code>x.mean((0, 2, 3))</code> is one number a channel; <code>x.var(...)</code> divides by n − 1 unless told otherwise.</details>
# <details><summary>Solution</summary>
#
# ```python
# def recalibrated(bn, batches):
#     bn.running_mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
#     bn.running_var = torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0)
#     return bn
# ```
#
# </details>
#
# ## Does it pay?
#
# The article's second stage trains what is left, the teacher's classifier frozen. It beats a plain student trained for as long as that stage
# takes. But the dropped student's weights were trained before, inside the teacher. The control that was left out is a plain student that
# may spend **all** the training that the two stages cost.

# %%
from reducenet import build, fit

repaired, _ = fit(freeze(dropped, "classifier"), page.data, **page.training, nth_fit=1)
plain, _ = fit(build("plain", **page.size), page.data, **page.training)
live = {"drop-fc": repaired, "plain": plain, "drop": dropped}
live = (
    {arm: 100 * accuracy(net, page.data, page.data.test) for arm, net in live.items()}
    if page.as_recorded
    else {}
)
page.evidence.figure(
    ("drop-fc", "plain-long"), "drop-fc", "plain-long", "teacher", "drop-bn", "drop", live=live
)

# %%
page.evidence.say(("drop-fc", "plain-long"))

# %% [markdown]
# One seed is an anecdote, and three epochs are few. Where a kernel runs, train what is left yourself: change the epochs and the rate, and
# stop when you have seen enough. Nothing below waits for it.

# %%
from reducenet.course.training import Training

Training(freeze(dropped, "classifier"), page.data, **page.training, nth_fit=1)

# %% [markdown]
# ## Break it
#
# A scaler of 0 *multiplies* by nothing, dropping *deletes*. Both compute the same; only one is cheap. And `fuse` folds every BN into its
# conv, which is why a student has fewer parameters in one table than in another.

# %%
from reducenet import fuse, macs, parameters, set_scaler

silent = set_scaler(teacher, 0.0)
print("same logits, bitwise:", torch.equal(silent(x), dropped(x)))
for name, net in {
    "scaler 0": silent,
    "dropped": dropped,
    "dropped and fused": fuse(dropped),
}.items():
    print(
        f"{name:18s}{parameters(net):8,} parameters {macs(net, page.shape):10,} multiply-adds an image"
    )

# %% [markdown]
# ## Recap
#
# - Teacher and student are one block at $s = 1$ and $s = 0$; dropping is exact as a function, and free.
# - Most of what dropping costs is a scale, and most of the scale sits in one BN behind the sum.
# - Whether two stages are worth it is a question of their whole cost, and the sentence under the figure is the answer there is.
#
# ## Questions
#
# <details><summary>1. Why does branch2 not suffer from branch1's BatchNorms?</summary>Each branch has its own. What shifts is the input of conv3.</details>
# <details><summary>2. What if both branches shared one BN, behind the sum?</summary>Dropping branch1 would shift the input of the very BN that was fitted to the sum. The article's repository has that block; here it is called <code>published</code>.</details>
# <details><summary>3. Why is a plain student with the same number of epochs no fair control?</summary>The dropped student's weights were trained before, as part of the teacher. The control may spend the whole cost.</details>
# <details><summary>4. The scaler is 0.5. Where in the block is the value halfway between teacher and student?</summary>Up to and behind bn3: conv3 is linear and bn3, in eval mode, affine, so halfway stays halfway. After the ReLU it does not; and the next block's input is not halfway either.</details>
# <details><summary>5. Why do teacher and plain student of one seed start alike where they share a part?</summary>Every part is drawn from (seed, its name). Adding branch1 cannot change another part's start, so differences can be paired.</details>
#
# What the experiments say of the claims behind this page, with intervals, controls and every run:
#
# <!-- claims -->
#
# **Try next:** `expansion = 8`: does the better teacher leave the better student? `scaler = 0.5`: what does dropping cost when half of the branch
# was all there ever was?
#
# **References:** the article, "Further evolution: the scaler branch" · He et al., arXiv:1512.03385 · Ding et al., RepVGG, arXiv:2101.03697 ·
# Wang et al., "Why is the state of neural network pruning so confusing?", arXiv:2301.05219
#
# <!-- next -->

# %% tags=["closing"]
page.close()
