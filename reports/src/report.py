# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A comparison report
#
# From a study file and its rows to figures, `report.md` and `index.html`: what `reducenet report` renders, by hand and without the store.
# Every number and every sentence on the page comes from the rows. `papermill reports/report.ipynb out.ipynb --cwd reports`

# %% tags=["parameters"]
study: str = "../ablations/quick.toml"  # the study file
rows: str = "quick"  # folder with its rows: results.csv and timings.csv
out: str = "build"  # folder for the page

# %%
from pathlib import Path

from IPython.display import Markdown, display

from reducenet.study.read import read
from reducenet.study.report.page import render
from reducenet.study.report.prose import Report
from reducenet.study.report.tables import read_rows

# %% [markdown]
# ## Render

# %%
report = Report(read(study), read_rows(Path(rows)))
markdown = render(report, Path(out))
display(Markdown(markdown.split("## What it costs")[0].replace("(figures/", f"({out}/figures/")))

# %% [markdown]
# ## The rows

# %%
report.rows[["arm", "seed", "status", "test_accuracy", "val_accuracy", "ledger_macs", "fuse_error"]]
