"""A tiny study on synthetic images, written into a folder of its own: what the tests of the engine run."""

import shutil
import sys
from pathlib import Path

from reducenet.data import sources
from reducenet.study import key
from reducenet.words import declared, lock

ROOT = Path(__file__).parents[1]

TINY = """
title = "tiny"
data = "synthetic"
seeds = 2
together = 1
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


def forget() -> None:
    """As in a new process: nothing from outside is a word, nothing that was read is remembered."""
    declared._added.clear()
    declared._here.clear()
    for module in (declared, lock, key, sources):
        for cached in vars(module).values():
            if hasattr(cached, "cache_clear"):
                cached.cache_clear()
    for name in [name for name in sys.modules if name.startswith("reducenet_words_")]:
        del sys.modules[name]


def here(run, store, folder) -> None:
    """In place of a kernel, for `execute._papermill`: what the notebook of a run calls, in this process."""
    from reducenet.play.piece import play_piece
    from reducenet.play.timing import time_arms

    given = {**run.parameters, "key": run.key, "store": str(store.folder), "out": str(folder)}
    if run.exclusive:
        given.pop("device")
        time_arms(**given)
    else:
        play_piece(**given, trained=run.trained)
    shutil.copy(run.notebook, folder / "run.ipynb")
