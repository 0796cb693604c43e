"""The trained networks that travel with the course: teachers of four expansions, seed 0 of the study `expansion`.

Made by `python -m reducenet.course.nets` from the store, after `reducenet run expansion`.
"""

import shutil
from pathlib import Path

from torch import nn

from reducenet.play.checkpoint import load

FOLDER = Path(__file__).parent / "nets"
EXPANSIONS = (1, 2, 4, 8)


def teacher(expansion: int) -> nn.Module:
    """The shipped teacher of this expansion, in eval mode. `CheckpointError` where the file is damaged."""
    if expansion not in EXPANSIONS:
        raise ValueError(f"no teacher of expansion {expansion} is shipped; there are {', '.join(map(str, EXPANSIONS))}")
    return load(FOLDER / f"teacher-e{expansion}.safetensors").eval()


def teachers() -> dict[int, nn.Module]:
    """expansion -> teacher."""
    return {expansion: teacher(expansion) for expansion in EXPANSIONS}


if __name__ == "__main__":
    from reducenet.study.plan import plan

    made = plan("ablations/expansion.toml")
    FOLDER.mkdir(exist_ok=True)
    for expansion in EXPANSIONS:
        file = Path("ablations/store") / made.runs[made.ends[f"e{expansion}", 0]].trained / "net.safetensors"
        print(shutil.copy(file, FOLDER / f"teacher-e{expansion}.safetensors"), f"{file.stat().st_size / 1e3:.0f} kB")
