"""Processes that do the same thing at the same time, as a study's do: what a core gives while the other works too.

with Crew(2) as crew:
    train = crew.turn(training, "plain")     # each process calls training(number, "plain") once, for what it does in a turn
    train()                                  # -> what the slowest of them took
"""

import contextlib
import itertools
import multiprocessing
import signal
import traceback
from collections.abc import Callable

from benchmarks.harness import CannotRun, Turn
from reducenet.data.sources import DataError
from reducenet.study.run.drive import usable_cores
from reducenet.study.run.execute import pinned


class Crew:
    """`count` processes of `threads` threads each. `CannotRun` where there are not as many cores."""

    def __init__(self, count: int = 1, threads: int = 1, *, cores: int | None = None):
        needed, there = count * threads if cores is None else cores, usable_cores()
        if there < needed:
            raise CannotRun(f"needs {needed} cores, this process may use {there}")
        self.count, self._names = count, itertools.count()
        self._pipes, self._processes = [], []
        spawned = multiprocessing.get_context("spawn")
        with pinned(threads):
            for number in range(count):
                here, there = spawned.Pipe()
                process = spawned.Process(target=_work, args=(there, number, threads))  # no daemon: loaders have processes of their own
                process.start()
                there.close()
                self._pipes.append(here)
                self._processes.append(process)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_) -> None:
        for pipe in self._pipes:
            pipe.close()  # the end of its work
        for process in self._processes:
            process.join(60)
            if process.is_alive():
                process.kill()

    def turn(self, make: Callable[..., Turn], *given, **named) -> Turn:
        """`turn() == max(make(number, *given, **named)())` over the processes, `number` being 0, 1, ...; each makes its own once."""
        each = self.each(make, *given, **named)
        return lambda: max(each())

    def each(self, make: Callable[..., Turn], *given, **named) -> Callable[[], list[float]]:
        """As `turn`, but what every process gave."""
        name = next(self._names)
        self._ask((name, make, given, named))
        return lambda: self._ask((name,))

    def _ask(self, order: tuple) -> list[float]:
        for pipe in self._pipes:
            pipe.send(order)
        answers = []
        for pipe in self._pipes:
            try:
                answers.append(pipe.recv())
            except EOFError:
                raise RuntimeError("a process of the crew died; is there enough memory?") from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def _work(pipe, number: int, threads: int) -> None:
    """What a process does until its pipe is closed: make a turn, or have one."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who asks is interrupted, and closes the pipe
    turns: dict[int, Turn] = {}
    while True:
        try:
            name, *made = pipe.recv()
        except EOFError:
            turns.clear()  # and with them the processes of loaders
            return
        try:
            if made:
                make, given, named = made
                turns[name] = make(number, *given, **named)
            answer = 0.0 if made else turns[name]()
        except (CannotRun, DataError) as why:
            answer = why
        except Exception:
            answer = RuntimeError(traceback.format_exc())
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            pipe.send(answer)
