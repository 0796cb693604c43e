"""A tiny study on synthetic images, written into a folder of its own: what the tests of the engine run."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]

TINY = """
title = "tiny"
data = "synthetic"
seeds = 2
build = { width = 4 }
fit = { epochs = 1, lr = 0.05 }

[compare]
baseline = "plain"

[arms.teacher]
label = "the teacher"
chain = [{ build = { expansion = 2 } }, "fit"]

[arms.plain]
chain = [{ build = "plain" }, "fit"]

[arms.long]
chain = [{ build = "plain" }, { fit = { cost_of = "lora" } }]

[arms.drop]
after = "teacher"
chain = ["drop_branch"]

[arms.lora]
after = "teacher"
chain = ["drop_branch", { freeze = ["all"] }, { attach = { expansion = 2 } }, { fit = { loss = "kd", teacher = "teacher" } }, "fold"]
"""


def make(folder: Path, text: str = TINY, name: str = "tiny") -> Path:
    """A study file, with the project's notebooks beside it, in folders shaped like the project's."""
    ablations = folder / "ablations"
    ablations.mkdir(parents=True, exist_ok=True)
    for notebook in ("fit.ipynb", "latency.ipynb"):
        shutil.copy(ROOT / "ablations" / notebook, ablations)
    (folder / "reports").mkdir(exist_ok=True)
    shutil.copy(ROOT / "reports" / "report.ipynb", folder / "reports")
    file = ablations / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file
