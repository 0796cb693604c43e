"""The command line: `reducenet plan|run|status|report STUDY` and `reducenet data NAME`.

Exit codes: 0 all is well, 1 a run failed, 2 bad input (one line, nothing trained, nothing lost), 130 interrupted.
"""

import argparse
import os
import sys
from pathlib import Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> _Parser:
    parser = _Parser(prog="reducenet", description="Plan, run and report ablation studies of networks that shed a branch.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    verbs = {
        "plan": "say what a study would run; trains nothing",
        "run": "run what the store does not have yet",
        "status": "say what is done, running, failed and left",
        "report": "write reports/STUDY from the store",
    }
    for name, what in verbs.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("study", help="a study file (ablations/quick.toml) or its name (quick)")
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="instead of the study's own")
        command.add_argument("--store", help="folder of finished runs; default: store/ beside the study file")
        if name == "run":
            command.add_argument("--serial", action="store_true", help="one run after the other in this process, without Dask")
            command.add_argument("--workers", type=int, help="processes; default: one a core, one alone on a GPU")
        if name == "report":
            command.add_argument("--out", help="folder of the report; default: reports/STUDY beside the study's folder")
            command.add_argument("--force", action="store_true", help="write it even if nothing has changed")
    command = commands.add_parser("data", help="fetch a data set into the cache folder", description="fetch a data set")
    command.add_argument("name", help="fashion-mini, fashion-mnist, cifar10, cifar100 or synthetic")
    return parser


def main(arguments: list[str] | None = None) -> int:
    from reducenet.datasets import DataError
    from reducenet.study.grammar import StudyError
    from reducenet.study.store import StoreError

    options = _parser().parse_args(arguments)
    try:
        return {"plan": _plan, "run": _run, "status": _status, "report": _report, "data": _data}[options.command](options)
    except (StudyError, StoreError, DataError) as error:
        print(f"reducenet: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reducenet: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nreducenet: interrupted; what is finished is in the store, the same command goes on from there", file=sys.stderr)
        return 130


def _open(options):
    from reducenet.study.plan import plan
    from reducenet.study.store import Store

    path = Path(options.study)
    if path.suffix != ".toml":
        path = Path("ablations") / f"{path}.toml"
    planned = plan(path, options.device)
    return planned, Store(options.store or path.parent / "store")


def _plan(options) -> int:
    from reducenet.study.overview import print_plan

    print_plan(*_open(options))
    return 0


def _status(options) -> int:
    from reducenet.study.overview import print_status

    return print_status(*_open(options))


def _run(options) -> int:
    from reducenet.study.drive import drive

    if options.workers is not None and options.workers < 1:
        raise SystemExit(_Parser(prog="reducenet run").error(f"--workers must be at least 1, not {options.workers}"))
    planned, store = _open(options)
    states = drive(planned, store, options.workers, options.serial)
    trouble = [state for state in states.values() if state["state"] in ("failed", "blocked")]
    print(f"{planned.name}: {len(states) - len(trouble)} of {len(planned.runs)} runs are in {store.folder}"
          + (f"; {len(trouble)} failed or blocked, `reducenet status {options.study}` says why" if trouble else ""))  # fmt: skip
    return int(bool(trouble))


def _report(options) -> int:
    from reducenet.study.report import write

    planned, store = _open(options)
    page, fresh = write(planned, store, Path(options.out) if options.out else None, options.force)
    print(os.path.relpath(page) + ("" if fresh else " (up to date)"))
    return 0


def _data(options) -> int:
    from reducenet import datasets

    print(f"{options.name} is in {datasets.download(options.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
