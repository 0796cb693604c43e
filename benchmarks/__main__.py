"""Measure, record, tell: `python -m benchmarks`. What cannot be measured here says so in one line and keeps its old row."""

import argparse
import sys
import time
import traceback
from pathlib import Path

import torch

from benchmarks import results, table
from benchmarks.figures import FIGURES, Figure
from benchmarks.harness import FULL, QUICK, CannotRun, Row
from reducenet.data.sources import DataError

ON_A_GPU = FULL._replace(images=12_800)  # 100 steps


def main(
    arguments: list[str] | None = None, figures: dict[str, Figure] = FIGURES, file: Path = results.FILE, page: Path = table.PAGE
) -> int:
    """0; 1 where a figure broke; 2 where nothing can be measured or the record is damaged. Rows go to `file`, the table to `page`."""
    options = _options(arguments, figures)
    wanted = options.only or [name for name, figure in figures.items() if _is_due(figure, options)]
    try:
        rows = results.read(file)  # damaged or not is said before minutes of measuring
        if options.table:
            table.write(rows, page)
            return 0
        if options.gpu and not torch.cuda.is_available():
            raise CannotRun("this torch sees no CUDA device, and --gpu measures nothing else; `make bench` needs none")
        broken = []
        for name in wanted:
            print(f"{name}: ", end="", flush=True)
            try:
                measured = _measured(name, figures[name], options.quick)
            except (CannotRun, DataError) as why:
                print(f"not measured, {why}", flush=True)
            except Exception:
                print("broke", flush=True)
                traceback.print_exc()
                broken.append(name)
            else:
                rows = results.merged(rows, name, measured, list(figures))
                if not options.quick:
                    results.write(rows, file)
                    table.write(rows, page)
        _tell([row for row in rows if row.by in wanted], broken)
    except CannotRun as why:
        print(f"benchmarks: {why}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbenchmarks: interrupted; what was recorded so far stays", file=sys.stderr)
        return 130
    return int(bool(broken))


def _options(arguments: list[str] | None, figures: dict[str, Figure]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=list(figures), metavar="NAME", help=f"one of {', '.join(figures)}")
    parser.add_argument("--all", action="store_true", help="what takes minutes too: a whole study from nothing")
    parser.add_argument("--gpu", action="store_true", help="what needs CUDA, and nothing else")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs; nothing is recorded")
    parser.add_argument("--table", action="store_true", help="write docs/benchmarks.md of what is recorded, and measure nothing")
    return parser.parse_args(arguments)


def _is_due(figure: Figure, options: argparse.Namespace) -> bool:
    return figure.when == "gpu" if options.gpu else figure.when == "always" or (options.all and figure.when == "asked")


def _measured(name: str, figure: Figure, quick: bool) -> list[Row]:
    device = "cuda" if figure.when == "gpu" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CannotRun("it needs CUDA")
    start = time.perf_counter()
    rows = results.stamped(name, figure.measure(QUICK if quick else ON_A_GPU if device == "cuda" else FULL), device)
    print(f"{', '.join(f'{row.ratio:.2f}' for row in rows)} ({time.perf_counter() - start:.0f} s)", flush=True)
    return rows


def _tell(rows: list[Row], broken: list[str]) -> None:
    print("\n" + table.table(rows))
    for row in rows:
        if row.met is False:
            print(f"{row.figure}: {row.holds_back}")
    if broken:
        print(f"broke, and kept what they had: {', '.join(broken)}")


if __name__ == "__main__":
    sys.exit(main())
