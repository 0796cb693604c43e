# %% [markdown]
# # 0 · Start here
#
# > A large network loses a branch, and what is left *is* the small network. Watch it happen, then find out what it is worth.
# >
# > 中文：大网络去掉一条分支，剩下的就是小网络；先看它发生，再弄清它值多少。
#
# <!-- times -->

# %% tags=["parameters"]
seed: int = 0  # start of the networks, order and views of the images
width: int = 8  # planes of the first stage
epochs: int = 3  # of each training
dataset: str = "fashion-mini"  # fashion-mini, fashion-mnist or synthetic
profile: str = "quick"  # smoke: few images; quick; full: 3x longer
retrain: bool = False  # True: train here what is shipped

# %% tags=["opening"]
from reducenet.course.opening import open_page

page = open_page(
    "quick",
    seed=seed,
    width=width,
    epochs=epochs,
    dataset=dataset,
    profile=profile,
    retrain=retrain,
)
page

# %% tags=["panel"]
teacher, student = page.network("teacher-e4"), page.network("student-fc")
page.panel("shrink", teacher=teacher, student=student)

# %% [markdown]
# ## Predict
#
# Between the second step and the third no weight moves: only the running means and variances of the BatchNorms are measured again.

# %% tags=["predict"]
from reducenet import accuracy, drop_branch, recalibrate
from reducenet.course.prediction import between, predict

dropped = drop_branch(teacher)
anew = recalibrate(dropped, page.data, images=min(4000, len(page.data.train.labels)))
whole, gone, back = (
    100 * accuracy(net, page.data, page.data.val) for net in (teacher, dropped, anew)
)
predict(
    "Of what dropping the branch cost, measuring the BatchNorms again brings back …",
    ["nothing", "less than half", "more than half", "all of it"],
    right=between((back - gone) / max(whole - gone, 0.01), 0.05, 0.5, 0.95),
    measured=f"whole {whole:.1f} %, dropped {gone:.1f} %, measured again {back:.1f} % of the validation images.",
)

# %% [markdown]
# ## Five steps, five lines
#
# What you watched are *moves*: functions that take a network and return another. Every experiment of this course is a sentence of them.

# %% tags=["derive"]
from reducenet import freeze, fuse

small = drop_branch(teacher)  # the student inside the teacher
small = recalibrate(
    small, page.data, images=min(4000, len(page.data.train.labels))
)  # its BatchNorms measured again
ready = freeze(small, "classifier")  # what is trained now keeps the teacher's classifier
# small, rows = fit(ready, page.data, epochs=3, lr=0.4)   the second training; its result is shipped: `student`
deployed = fuse(student)  # every BatchNorm folded into its convolution

x = page.data.normalise(page.data.val.images[:64])
assert (deployed(x) - student(x)).abs().max() < 1e-3  # the same function
print(f"{len(list(teacher.modules()))} modules became {len(list(deployed.modules()))}")

# %% [markdown]
# ## Is it worth it?
#
# The picture is pretty, and it proves nothing. A small network that was trained from the start, for as long as *both* trainings took, is
# the control that decides. Every page ends in such a picture: each stroke is a seed, each line an interval.

# %%
page.evidence.figure(("drop-fc", "plain-long"), "drop-fc", "plain-long")

# %%
page.evidence.say(("drop-fc", "plain-long"))

# %% [markdown]
# ## The course
#
# It follows the history of one design, wrong turns included, and asks of each step whether it was needed.
#
# <!-- contents -->
#
# ## How to use a page
#
# 1. **Play** with the panel at its top. It runs a trained network in your browser; it needs no kernel and works on a phone.
# 2. **Predict** before you look. What you say is locked in; the answer opens beside it. *Run All* spoils nothing.
# 3. **Derive** the one idea in a cell that fits the screen. Your version is checked against the package, and then it is yours that runs.
# 4. **Try** the exercises. A check tells what is wrong, never stops the page, and says *not tried yet* to an untouched stub.
# 5. **Decide** by recorded evidence. With fewer than eight paired seeds the answer is *not decided yet*, whatever it looks like.
#
# Change a parameter in the second cell and run again, or `papermill notebooks/03_scaler_branch.ipynb out.ipynb -p expansion 2`.
#
# ## Words
#
# | word | meaning | 中文 |
# |:--|:--|:--|
# | teacher | the large network: every block with both branches, scaler 1 | 教师网络 |
# | student | the same network with branch1 gone | 学生网络 |
# | branch1, branch2 | conv3(expand)-BN-ReLU-conv1(reduce)-BN-ReLU; conv3-BN-ReLU | 分支一、分支二 |
# | scaler | the real factor on branch1 | 缩放系数 |
# | expansion | branch1's inner width over planes | 扩张倍数 |
# | lam | LambdaReLU's lambda: 0 is ReLU, 1 the identity | λ |
# | fold, merge, add | a BN or side branch into a conv; two consecutive convs into one; two parallel ones into one | 折叠、合并、相加 |
# | ring | the border pixels where a merge can be wrong | 边界环 |
# | side branch | the linear pair conv3(expand)-conv1(reduce) beside a conv | 旁支 |
# | control | an arm that gives the mundane explanation its chance | 对照组 |
# | ledger | the training cost of an arm, its teacher included | 训练总账 |
#
# Seeds make a run repeatable on one kind of processor; on another, single accuracies move by a few tenths of a point.
#
# <!-- next -->

# %% tags=["closing"]
page.close()
