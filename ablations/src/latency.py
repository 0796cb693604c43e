# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast the arms are, side by side
#
# The deployed network of every arm (seed 0), timed in one process that runs alone, in rounds, so that a slow moment of the machine
# meets all of them. Medians over the rounds; the ratio to the baseline travels better between machines than the milliseconds.

# %% tags=["parameters"]
arms: dict = {}  # arm -> key of its network
data: str = "synthetic"  # name of the data set, for the shape of an image
store: str = ""  # folder that holds the runs
out: str = ""  # folder for this run's files
key: str = ""  # this run's key
device: str = "cpu"  # the arms are timed on the CPU whatever trained them
threads: int = 1  # threads of torch
own_words: list = []  # Python files with words from outside the package

# %%
from reducenet.play.timing import time_arms

latency = time_arms(arms, data=data, store=store, out=out, key=key, threads=threads, own_words=own_words)

# %%
for arm, seconds in latency.items():
    print(f"{arm:24}" + "".join(f"  {batch:>2} images {1e3 * median:8.3f} ms" for batch, median in seconds.items()))
