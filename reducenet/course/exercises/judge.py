"""How an answer is judged. An untouched stub is "not tried yet", a wrong answer hears its cause, and nothing ever stops Run All.

What is right is computed first, and on copies: whatever the reader's function does to what it is handed, it does to its own.
"""

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """`mark`: ☐ not tried yet, ✗ wrong, ✓ right."""

    mark: str
    text: str

    def __repr__(self) -> str:
        return f"{self.mark} {self.text}"


@dataclass(frozen=True)
class Task:
    """`solve(*case)` is right for every case; `slips[cause](*case)` is what comes out for who makes that slip.

    `cases` makes the cases, each a tuple of arguments. `read(answer, *case)` is the tensor of an answer that is compared, where the answer
    is not one itself; it may raise `Wrong`. With `grads` functions run with gradients on.
    """

    cases: Callable[[], list[tuple]]
    solve: Callable
    slips: dict[str, Callable] = field(default_factory=dict)
    read: Callable = lambda answer, *case: answer
    tolerance: float = 1e-10
    grads: bool = False
    right: str = "equal to the package's everywhere, in float64"


class Wrong(ValueError):
    """Why an answer cannot even be compared, in one line."""


def judge(mine: Callable, task: Task) -> Answer:
    """Is `mine` right? See `Task`."""
    with torch.set_grad_enabled(task.grads):
        expected = [_read(task, task.solve, case) for case in task.cases()]
        found = []
        for case in task.cases():
            try:
                found.append(_read(task, mine, case))
            except _NotTried:
                return Answer("☐", "not tried yet")
            except Wrong as error:
                return Answer("✗", str(error))
            except Exception as error:  # any mistake of the reader's is an answer to talk about
                return Answer(
                    "✗", f"it stops with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}{_line(error)}"
                )
        for one, right in zip(found, expected, strict=True):
            if one.shape != right.shape:
                return Answer("✗", f"expected the shape {tuple(right.shape)}, got {tuple(one.shape)}")
        if _same(found, expected, task.tolerance):
            return Answer("✓", task.right)
        cause = next((cause for cause, slip in task.slips.items() if _slipped(task, slip, found)), None) or _by_its_look(found, expected)
    gap = max((one - right).abs().max().item() for one, right in zip(found, expected, strict=True))
    return Answer("✗", f"differs by up to {gap:.2g}: {cause}" if cause else f"differs by up to {gap:.2g}")


class _NotTried(Exception):
    pass


def _read(task: Task, function: Callable, case: tuple) -> Tensor:
    """What is compared, in float64. The case is copied for the function and once more for who reads its answer."""
    answer = function(*copy.deepcopy(case))
    if answer is None or answer is ...:
        raise _NotTried
    found = task.read(answer, *copy.deepcopy(case))
    if isinstance(found, bool | int | float):
        found = torch.tensor(float(found))
    if not isinstance(found, Tensor):
        raise Wrong(f"expected a tensor, got {type(found).__name__}")
    return found.detach().double()


def _same(found: list[Tensor], expected: list[Tensor], tolerance: float) -> bool:
    return all(
        one.shape == right.shape and torch.allclose(one, right, rtol=0, atol=tolerance) for one, right in zip(found, expected, strict=True)
    )


def _slipped(task: Task, slip: Callable, found: list[Tensor]) -> bool:
    try:
        return _same(found, [_read(task, slip, case) for case in task.cases()], task.tolerance)
    except Exception:  # a slip need not make sense in every case
        return False


def _by_its_look(found: list[Tensor], expected: list[Tensor]) -> str | None:
    """What kind of wrong it is, where no slip is known to give it."""
    one, right = (torch.cat([part.flatten() for part in parts]) for parts in (found, expected))
    if not torch.isfinite(one).all():
        return "some of it is not a finite number"
    if torch.allclose(one, right, rtol=1e-5, atol=1e-5):
        return "right but for rounding; compute in the precision of what you are given"
    factor = (one @ right / (right @ right)).item() if right.any() else 0.0
    if torch.allclose(one, factor * right, rtol=0, atol=1e-9):
        return f"it is {factor:.3g} times what it should be" if factor else "it is zero everywhere"
    if torch.allclose(one - right, (one - right).mean(), rtol=0, atol=1e-9):
        return "it is off by the same number everywhere"
    if all(part.dim() == 4 and min(part.shape[2:]) > 2 for part in found):
        inside = [(part - other)[..., 1:-1, 1:-1].abs().max() < 1e-9 for part, other in zip(found, expected, strict=True)]
        if all(inside):
            return "right inside, wrong on the ring of border pixels"
    right_cases = [torch.allclose(part, other, rtol=0, atol=1e-9) for part, other in zip(found, expected, strict=True)]
    if any(right_cases):
        return f"right in {sum(right_cases)} of {len(right_cases)} cases"
    return None


def _line(error: Exception) -> str:
    """In which line of the reader's cell."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(("/tmp/ipykernel", "<"))]
    return f" (line {frames[-1].lineno} of your cell)" if frames else ""
