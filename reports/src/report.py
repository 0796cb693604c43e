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
# From a study file and its rows to figures, `report.md` and `index.html`. Every number and every sentence on the page comes from the rows.
# By hand, without training anything: `papermill reports/report.ipynb out.ipynb`.

# %% tags=["parameters"]
study: str = "../ablations/quick.toml"  # the study file
rows: str = "quick/results.csv"  # its rows
out: str = "build"  # folder for the page

# %%
import json
from pathlib import Path

from IPython.display import Markdown, display

from reducenet.study.page import render
from reducenet.study.report import contrasts_of

# %% [markdown]
# ## Render

# %%
report = render(Path(study), Path(rows), Path(out))
(Path(out) / ".contrasts.json").write_text(json.dumps(contrasts_of(report)))
display(
    Markdown((Path(out) / "report.md").read_text(encoding="utf-8").split("## What it costs")[0].replace("(figures/", f"({out}/figures/"))
)

# %% [markdown]
# ## The rows

# %%
report.rows[["arm", "seed", "status", "test_accuracy", "val_accuracy", "ledger_macs", "fuse_error"]]
