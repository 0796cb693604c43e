"""How far a plan is: one live table in a terminal, one line an event everywhere else. A view over the store; it decides nothing."""

import contextlib
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table

from reducenet.store import Store
from reducenet.study.plan import Plan, arm_of

WORDS = {"ok": "done", "diverged": "diverged", "failed": "FAILED", "blocked": "blocked"}


def in_words(seconds: float) -> str:
    """`in_words(75) == "75 s"`, `in_words(200) == "3 min"`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    def __init__(self, plan: Plan, store: Store, console: Console | None = None):
        self.plan, self.store = plan, store
        self.console = console or Console(highlight=False, markup=False)
        self.states: dict[str, dict] = {}
        self.seconds: dict[str, list[float]] = {}  # by arm, of the runs finished here
        self.cached, self.live = 0, None
        self.start = self.last = time.monotonic()  # of the drive, and when a run last ended

    @contextlib.contextmanager
    def over(self, states: dict[str, dict]):
        """While runs finish: draw the table twice a second, or print lines."""
        self.states, self.cached = dict(states), len(states)
        self.start = self.last = time.monotonic()
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self.table, console=self.console, refresh_per_second=2) as self.live:
            yield

    def report(self, status: dict) -> None:
        """One run has ended."""
        self.states[status["key"]], self.last = status, time.monotonic()
        if status["state"] == "ok":
            self.seconds.setdefault(arm_of(status["name"]), []).append(status["seconds"])
        line = f"{status['name']} {WORDS[status['state']]} in {status['seconds']:.1f} s"
        if status["error"]:
            line += f": {status['error']}"
        if not self.console.is_terminal:
            self.console.print(f"{line} · {len(self.states)}/{len(self.plan.runs) + 1} · {self.time_left()} left", soft_wrap=True)
            self.console.file.flush()  # a log file shows the line now, not in 8 kB
        elif status["state"] != "ok":
            self.console.print(line, soft_wrap=True)

    def time_left(self) -> str:
        """From the mean seconds of finished runs of the same arm, or of all, at the pace of the runs so far. "?" before the first."""
        spent = sum(sum(times) for times in self.seconds.values())
        if not spent:
            return "?"
        overall = spent / sum(len(times) for times in self.seconds.values())
        todo = 0.0
        for key, run in self.plan.runs.items():
            if key not in self.states:
                times = self.seconds.get(run.arm)
                todo += sum(times) / len(times) if times else overall
        pace = (self.last - self.start) / spent  # seconds of the clock for a second of a run
        left = max(0.0, todo * pace - (time.monotonic() - self.last)) if todo else 0.0
        return in_words(left)

    def table(self) -> Table:
        """An arm a row: done, running, left; and one line with the sum and the time left."""
        running = self.store.running()
        table = Table(title=f"{self.plan.name}: {self.plan.study.title}", title_justify="left")
        for column in ("arm", "done", "running", "left", "trouble"):
            table.add_column(column, justify="left" if column == "arm" else "right")
        arms: dict[str, list[str]] = {}
        for key, run in self.plan.runs.items():
            arms.setdefault(run.arm, []).append(key)
        totals = [0, 0, 0, 0]
        for arm, keys in arms.items():
            done = sum(self.states.get(key, {}).get("state") == "ok" for key in keys)
            trouble = sum(key in self.states for key in keys) - done
            now = sum(key in running and key not in self.states for key in keys)
            row = [done, now, len(keys) - done - now - trouble, trouble]
            totals = [a + b for a, b in zip(totals, row, strict=True)]
            table.add_row(arm, *(str(n) if n else "" for n in row))
        table.add_section()
        table.add_row("all", *map(str, totals))
        table.caption = f"{self.time_left()} left · {time.monotonic() - self.start:.0f} s so far · {self.cached} were in the store"
        return table
