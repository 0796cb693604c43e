# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · A branch you can switch off
#
# > A large network that loses a branch *is* the small network. Here you build the block, switch the branch off, and see what is left.
# >
# > 中文：大网络去掉一条分支，就成了小网络；本页搭建这个模块，关掉分支，看看还剩下什么。
#
# | | |
# |---|---|
# | you need | convolutions, BatchNorm, a little PyTorch |
# | you will be able to | write the scaler block, drop its branch exactly, and say why dropping it hurts and what repairs it |
# | runs on | two CPU cores in under a minute; the last cell says how long it took on yours |
# | data | `fashion-mini`: 10,000 + 2,000 + 5,000 images of Fashion-MNIST, inside the package |
#
# To change a parameter, edit the next cell, or `papermill notebooks/03_scaler_branch.ipynb out.ipynb -p expansion 2 -p scaler 0.5`.

# %% tags=["parameters"]
seed: int = 0  # start of the network, order and views of the images
expansion: int = 4  # branch1's inner width over planes: 1, 2, 4 or 8
scaler: float = 1.0  # factor on branch1 in training, and where the panel starts: 0 to 1
width: int = 8  # planes of the first stage
epochs: int = 3  # of each training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick: the shipped teacher if it fits; full: 3x longer

# %%
from reducenet.course.parameters import check

check(
    globals(),
    seed=(0, 10**6),
    expansion=[1, 2, 4, 8],
    scaler=(0.0, 1.0),
    width=(4, 64),
    epochs=(1, 200),
    dataset=["fashion-mini", "fashion-mnist", "synthetic"],
    profile=["smoke", "quick", "full"],
)

# %%
import time

import matplotlib.pyplot as plt
import seaborn as sns
import torch
from IPython.display import HTML, display
from torch import nn
from torch.optim.swa_utils import update_bn

import reducenet
from reducenet import ScalerBlock, accuracy, build, drop_branch, fit, freeze, load_data, macs
from reducenet.course import checks, drawing, nets
from reducenet.course.panels import ScalerPanel
from reducenet.course.prediction import predict, reveal
from reducenet.course.recorded import Recorded
from reducenet.course.scaler import Bench
from reducenet.data.tensors import batches
from reducenet.learn.device import device_for
from reducenet.style import BLUE, GREY, ORANGE, Drawn, theme

# %%
started = time.time()
torch.set_num_threads(1)  # networks this small gain nothing from more
theme()
quick, widths = Recorded("quick"), Recorded("expansion")
# %%
data = load_data(dataset)
if profile == "smoke":
    data, epochs = data.subset(512), 1
if profile == "full":
    epochs *= 3
shape, classes = tuple(data.train.images.shape[1:]), len(data.classes)
size = dict(width=width, stem_stride=2, seed=seed, num_classes=classes, in_channels=shape[0])
where = device_for().type
print(f"{len(data.train.labels):,} training images, {epochs} epochs a training, on the {where}")

# %% [markdown]
# ## What does the block compute?
#
# Two branches look at the same input. **branch1** is a non-linear bottleneck: a 3×3 convolution that *expands*, a 1×1 convolution that
# *reduces*. **branch2** is one narrow 3×3 convolution. The *scaler* s says how much of branch1 is let in:
#
# $$ y = \mathrm{relu}(\mathrm{bn}_3(\mathrm{conv}_3(s \cdot \mathrm{branch}_1(x) + \mathrm{branch}_2(x))) + \mathrm{shortcut}(x)) $$
#
# With s = 1 this is the **teacher**. With s = 0 branch1 contributes nothing, can be deleted, and what remains is the **student**:
# an ordinary residual block. Nothing has to be merged, nothing converted.

# %%
HTML(drawing.block(scaler=1.0, expansion=expansion))

# %% [markdown]
# ### Derive it
#
# The whole block in under twenty lines. The names are the article's, so the weights of the package's block fit into ours.


# %%
class MyBlock(nn.Module):
    def __init__(self, c_in, c, stride, expansion, scaler):
        super().__init__()
        self.scaler, wide = scaler, expansion * c
        conv = dict(kernel_size=3, padding=1, bias=False)
        self.branch1 = nn.Sequential(
            nn.Conv2d(c_in, wide, stride=stride, **conv), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, c, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())  # fmt: skip
        self.branch2 = nn.Sequential(
            nn.Conv2d(c_in, c, stride=stride, **conv), nn.BatchNorm2d(c), nn.ReLU()
        )
        self.conv3, self.bn3 = nn.Conv2d(c, c, **conv), nn.BatchNorm2d(c)
        self.shortcut = nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):  # [N, c_in, H, W] -> [N, c, H / stride, W / stride]
        out = self.scaler * self.branch1(x) + self.branch2(x)
        return torch.relu(self.bn3(self.conv3(out)) + self.shortcut(x))


# %%
theirs = ScalerBlock(4, 8, stride=2, expansion=expansion, scaler=0.7).double()
mine = MyBlock(4, 8, stride=2, expansion=expansion, scaler=0.7).double()
mine.load_state_dict(theirs.state_dict())
x = torch.randn(5, 4, 9, 9, dtype=torch.float64)
torch.testing.assert_close(mine(x), theirs(x), rtol=0, atol=1e-12)
print("equal to the package's ScalerBlock, to 1e-12")

# %% [markdown]
# ## What does the branch cost, and what does it buy?
#
# A teacher and the student inside it, in numbers. MACs are multiply-adds of convolutions and linear layers, for one image.

# %%
rows = []
for e in (1, 2, 4, 8):
    large = build("scaler", expansion=e, **size)
    small = drop_branch(large)
    rows.append(
        [
            e,
            reducenet.parameters(large),
            macs(large, shape),
            reducenet.parameters(small),
            macs(small, shape),
        ]
    )
HTML(
    "<table><tr><th>expansion<th>teacher parameters<th>teacher MACs<th>student parameters<th>student MACs</tr>"
    + "".join("<tr>" + "".join(f"<td>{value:,}" for value in row) + "</tr>" for row in rows)
    + "</table>"
)

# %% [markdown]
# The student never changes; the expansion sets the size of the teacher alone. Does a wider branch make a better teacher?
# These are recorded runs, all with the same short training:

# %%
widths.say("plain", "e1", "e2", "e4", "e8")

# %% [markdown]
# ## What happens when the branch goes?
#
# A trained teacher sits ready (or is trained here, if you changed a parameter). We drop branch1 and train *nothing*.

# %% tags=["predict"]
options = ["stay as it was", "drop a little", "drop to half", "drop near chance"]
prediction = predict("The accuracy of the teacher without branch1 will …", options)
prediction

# %%
as_shipped = (seed, scaler, width, epochs, dataset, profile) == (
    0,
    1.0,
    8,
    3,
    "fashion-mini",
    "quick",
)
if as_shipped:
    teacher = nets.teacher(expansion)
else:
    fresh = build("scaler", expansion=expansion, scaler=scaler, **size)
    teacher, _ = fit(fresh, data, epochs=epochs, lr=0.4, seed=seed)
print("loaded the shipped teacher" if as_shipped else "trained a teacher here")
with_branch, without = (
    accuracy(teacher, data, data.val),
    accuracy(drop_branch(teacher), data, data.val),
)

# %%
measured = f"{100 * with_branch:.1f} % with branch1, {100 * without:.1f} % without"
reveal(prediction, f"{measured}; chance is {100 / classes:.0f} %")

# %% [markdown]
# **Expected:** the student is a subset of the teacher, so some of the accuracy should survive.
# **Saw:** read the two numbers above. And in the recorded runs:

# %%
widths.say("drop-e1", "drop-e2", "drop-e4", "drop-e8")

# %% [markdown]
# **So:** conv3 and bn3 were trained on a sum of two branches. One term is gone, and every number behind it is off its scale.
# Is the knowledge gone, or only the scale? Re-estimate the BN statistics of the student on training images. No weight moves:

# %%
dropped = drop_branch(teacher)
recalibrated = drop_branch(teacher)
update_bn((x for x, _ in batches(data, 250, seed, "recalibrate")), recalibrated)
after = accuracy(recalibrated.eval(), data, data.val)
print(f"as dropped {100 * without:.1f} %   BN statistics re-estimated {100 * after:.1f} %")

# %% [markdown]
# ## How much does training repair?
#
# The article's second stage: train what is left, with the teacher's classifier frozen. Against it, the same student from scratch.

# %%
stage_two = freeze(drop_branch(teacher), "classifier")
repaired, curve = fit(stage_two, data, epochs=epochs, lr=0.4, seed=seed, nth_fit=1)
plain = build("plain", **size)
scratch, plain_curve = fit(plain, data, epochs=epochs, lr=0.4, seed=seed)
same = torch.equal(repaired.classifier.weight, teacher.classifier.weight)
print(f"the classifier is still the teacher's, to the bit: {same}")


# %%
def repair_figure():
    figure, axes = plt.subplots(figsize=(5, 3.2))
    named = {
        "drop + frozen classifier": (curve, ORANGE, "v"),
        "plain student": (plain_curve, GREY, "o"),
    }
    for name, (rows, colour, marker) in named.items():
        epoch, value = zip(*((r["epoch"] + 1, 100 * r["val_accuracy"]) for r in rows), strict=True)
        axes.plot(epoch, value, color=colour, marker=marker, label=name)
    axes.axhline(100 * with_branch, color=BLUE, ls="--", label="teacher")
    axes.set_xlabel("epochs of this training")
    axes.set_ylabel("validation accuracy (%)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False)
    alt = "Line chart of validation accuracy by epoch: repaired and plain student; the teacher dashed."
    note = "One seed, trained here: a hint, not a result. Before the repaired student, a teacher was trained."
    return Drawn(figure, alt, note)


repair_figure()

# %% [markdown]
# One seed is an anecdote. The recorded study repeats the whole chain, teacher and student, and adds the control that the article left out:
# a plain student that may spend **all** the training that the two stages cost.

# %%
quick.say("teacher", "drop-ce", "drop-fc", "drop-kd", "plain-long", ("drop-fc", "plain-long"))

# %% [markdown]
# **Expected:** the two stages beat a plain student, because the teacher passes something on.
# **So:** read the last line before you believe it.

# %% [markdown]
# ## Play
#
# Move the scaler from 1 to 0 and watch the branch fade. Then change the expansion, and look at another image.
# Keyboard: Tab to a slider, then the arrow keys.

# %% tags=["widget"]
bench = Bench(nets.teachers() if as_shipped else {expansion: teacher}, data)
panel = ScalerPanel(bench, scaler=scaler, expansion=expansion)
panel

# %% [markdown]
# The same states for readers without a kernel:


# %% tags=["static"]
def static_figure(steps=(0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)):
    figure, axes = plt.subplots(figsize=(5, 3.4))
    axes.set_prop_cycle(color=sns.color_palette("crest", 4), marker=list("os^D"))
    ends = []
    for e in bench.teachers:
        line = [100 * bench.read(s, e).accuracy for s in steps]
        axes.plot(steps, line, label=f"expansion {e}")
        ends.append(f"expansion {e}: {line[0]:.0f} % at 0, {line[-1]:.0f} % at 1")
    axes.set(xlabel="scaler (0: student, 1: teacher)", ylabel="accuracy (%)")
    axes.legend(frameon=False)
    alt = f"Line chart of accuracy against the scaler. {'; '.join(ends)}."
    images = len(bench.held.labels)
    return Drawn(
        figure, alt, f"{images} validation images; one teacher (seed {seed}) an expansion."
    )


three = (f"<div style='flex:0 1 300px'>{drawing.block(s, expansion)}</div>" for s in (1, 0.5, 0))
display(static_figure(), HTML(f"<div style='display:flex;flex-wrap:wrap'>{''.join(three)}</div>"))

# %% [markdown]
# ## Your turn
#
# Difficulty ●●○○○ · about 10 minutes
#
# Write what the block computes once branch1 is gone, from the parts of a `ScalerBlock`: `branch2`, `conv3`, `bn3`, `shortcut`, `post`.
# Replace the `...`, run the cell, and the check tells you whether you are right.


# %% tags=["exercise"]
def student_forward(block, x):
    return ...


# %% tags=["check"]
checks.student_forward(student_forward)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Look at `forward` of `MyBlock` above and set the scaler to 0. The final ReLU of the package's block is called `post`.
#
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def student_forward(block, x):
#     return block.post(block.bn3(block.conv3(block.branch2(x))) + block.shortcut(x))
# ```
#
# </details>

# %% [markdown]
# ## What breaks it
#
# A scaler of 0 *multiplies* by nothing, dropping *deletes*. Both compute the same function, but only one of them is cheaper:

# %%
silent = reducenet.set_scaler(teacher, 0.0)
x = data.normalise(data.val.images[:64])
print("same logits, bitwise:", torch.equal(silent(x), dropped(x)))
print(f"scaler 0: {reducenet.parameters(silent):,} parameters, {macs(silent, shape):,} MACs")
print(f"dropped:  {reducenet.parameters(dropped):,} parameters, {macs(dropped, shape):,} MACs")

# %% [markdown]
# Another trap: freezing weights does not freeze BatchNorm. Its running statistics move whenever the network is in train mode, whatever
# `requires_grad` says. `freeze(net, "bn.statistics")` is a switch of its own.

# %%
for parts in (["bn.affine"], ["bn.affine", "bn.statistics"]):
    before = freeze(dropped, parts)
    after, _ = fit(before, data.subset(512), epochs=1, lr=0.05, progress=False)
    moved = (after.stem[1].running_mean - before.stem[1].running_mean).abs().max()
    print(f"frozen {' and '.join(parts):28s} the running mean moved by {moved:.3f}")

# %% [markdown]
# ## Recap
#
# - Teacher and student share one structure and one file: $s = 1$ and $s = 0$ of the same block.
# - Dropping is exact as a function of the scaler, and harmful without training, because the layers behind were fitted to the sum.
# - Whether the two stages are worth their cost is a question of controls, not of the mechanism.

# %%
quick.say("plain", "drop", "drop-fc", "plain-long")

# %% [markdown]
# ## Questions
#
# <details><summary>1. Why does the student at scaler 0 not suffer from branch1's BatchNorm?</summary>
#
# Each branch has BNs of its own. Dropping branch1 leaves branch2's statistics as they were; what shifts is the input of conv3.
# </details>
# <details><summary>2. What would a shared BN after the sum change?</summary>
#
# Dropping branch1 would shift the input of the very BN that was fitted to the sum. The article's repository has that block; it is called
# `published` here.
# </details>
# <details><summary>3. Why is a plain student with the same number of epochs not a fair control?</summary>
#
# The dropped student's weights were trained before, as part of the teacher. The plain student must be allowed the whole cost.
# </details>
# <details><summary>4. The scaler is 0.5. Is the result halfway between teacher and student?</summary>
#
# Before conv3, yes. After bn3 and the ReLU, and in accuracy, no: try it in the panel.
# </details>
# <details><summary>5. Why do teacher and plain student of one seed start alike where they share a part?</summary>
#
# Every part is drawn from (seed, its name). Adding branch1 cannot change another part's start, so differences can be paired.
# </details>
#
# ## Try next
#
# - `expansion = 8`: is the better teacher also the better starting point for the student?
# - `scaler = 0.5`: the teacher trains with half of its branch. What does dropping cost now?
#
# ## References
#
# - The article this project retraces, section "Further evolution: the scaler branch".
# - He, Zhang, Ren, Sun, "Deep residual learning", arXiv:1512.03385: the student's block.
# - Ding et al., "RepVGG", arXiv:2101.03697: branches that are merged instead of dropped.
# - Wang et al., "Why is the state of neural network pruning so confusing?", arXiv:2301.05219: why retraining is its own control.

# %%
print(f"this page took {time.time() - started:.0f} s here")
