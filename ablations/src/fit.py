# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # One run of a study
#
# A piece of a sentence of moves is played, kept and measured; what the store has is not trained again.
# By hand: `papermill ablations/fit.ipynb out.ipynb -p seed 3`.

# %% tags=["parameters"]
moves: list = [{"build": {"block": "plain"}}, {"fit": {"epochs": 2, "lr": 0.2}}]  # a piece of a sentence, as in a study file
seed: int = 0  # which replicate of the whole sentence
nth_fit: int = 0  # fits before this piece: with the seed it fixes views and order
data: str = "synthetic"  # name of the data set
after: str = ""  # key of the network that comes first
teacher: str = ""  # key of the network that teaches
paid_by: list = []  # keys of the runs whose training cost sets the epochs
tickets: list = []  # keys of the networks of which the best goes on
together: list = []  # the replicates that are trained at once, this one included
store: str = ""  # folder of finished runs; empty: a temporary one
out: str = ""  # folder for what is measured
key: str = ""  # of what is measured
trained: str = ""  # key of the network
device: str = "cpu"  # cpu or cuda
threads: int = 1  # threads of torch
own_words: list = []  # Python files with words from outside the package

# %%
from reducenet.play import show
from reducenet.play.piece import play_piece

piece = play_piece(
    moves, seed=seed, nth_fit=nth_fit, data=data, after=after, teacher=teacher, paid_by=paid_by, tickets=tickets, together=together,
    store=store, out=out, key=key, trained=trained, device=device, threads=threads, own_words=own_words,
)  # fmt: skip

# %% [markdown]
# ## The sentence

# %%
show.sentence(piece)

# %% [markdown]
# ## The curve

# %%
show.curve(piece)

# %% [markdown]
# ## What came out

# %%
show.results(piece)
