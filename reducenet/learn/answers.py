"""What a fixed network answered, kept: asked the same again, by another arm or another run, it need not be run.

    Answers(net, folder)(x) == net(x)      bitwise

A question is the batch itself, byte for byte, so nothing has to be known of seeds, epochs or order. Arms of one seed see identical views:
what one of them asked its teacher, the next one finds. What it would have cost is counted all the same: measures get the network itself.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

MOST = 1024  # bytes for an image: logits and features are kept, maps are not
TOGETHER = 100  # answers in one file


class Answers(nn.Module):
    """`net`, fixed, which answers in eval mode and without gradients. On the CPU: a GPU has the answer sooner than the question is read."""

    def __init__(self, net: nn.Module, folder: Path):
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        self._folder, self._known, self._read, self._new = Path(folder), {}, set(), {}

    def __deepcopy__(self, memo) -> "Answers":
        return self  # it is fixed, and what it knows is for all

    def train(self, mode: bool = True) -> "Answers":
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.ask("logits", x, self.net)

    @torch.no_grad()
    def ask(self, what: str, x: Tensor, answer) -> Tensor:
        """`answer(x)`, or what it was when this batch was asked before under the name `what`."""
        if x.device.type != "cpu":
            return answer(x)
        question = f"{what} {hashlib.sha256(f'{x.dtype} {x.shape} {x.stride()}'.encode() + _bytes(x)).hexdigest()[:32]}"
        if question not in self._known:
            self._look()
        if question not in self._known:
            given = answer(x)
            if given.numel() * given.element_size() > MOST * len(x):
                return given
            self._known[question] = self._new[question] = given
            if len(self._new) >= TOGETHER:
                self.keep()
        return self._known[question]

    def keep(self) -> None:
        """Write what is new, for others to find; each file appears whole."""
        if not self._new:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(".partial", dir=self._folder)
        os.close(handle)
        save_file({question: answer.contiguous() for question, answer in self._new.items()}, partial)
        whole = Path(partial).with_suffix(".safetensors")
        os.rename(partial, whole)
        self._read.add(whole.name)
        self._new = {}

    def _look(self) -> None:
        """Read what others have written since."""
        try:
            there = {entry.name for entry in os.scandir(self._folder) if entry.name.endswith(".safetensors")}
        except OSError:  # nobody has asked yet
            return
        for name in there - self._read:
            self._read.add(name)
            try:
                self._known |= load_file(self._folder / name)
            except (OSError, SafetensorError):  # swept away meanwhile, or damaged: it is asked again
                continue


def _bytes(x: Tensor) -> bytes:
    return x.detach().contiguous().numpy().tobytes()
