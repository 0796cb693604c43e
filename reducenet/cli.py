"""The command line: `reducenet plan|run|status|report STUDY`, `words [WORD]`, `accept` and `data NAME`.

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
        command.add_argument(
            "--words", action="append", default=[], metavar="FILE", help="a Python file with words of your own; it is run as code"
        )
        if name == "run":
            command.add_argument("--only", metavar="RUN", help="one run, as lora/s3, with all that it needs")
            command.add_argument("--serial", action="store_true", help="one run after the other in this process, without Dask")
            command.add_argument("--workers", type=int, help="processes; default: one a core, one alone on a GPU")
        if name == "report":
            command.add_argument("--out", help="folder of the report; default: reports/STUDY beside the study's folder")
            command.add_argument("--force", action="store_true", help="write it even if nothing has changed")
            command.add_argument("--timings", action="store_true", help="write this machine's timings even if the results are the same")
    command = commands.add_parser(
        "words", help="the words of a sentence: what they do and take", description="the grammar, or one word of it"
    )
    command.add_argument("--table", action="store_true", help="as README shows them")
    command.add_argument("word", nargs="?", help="a move, a loss, a block or a data set; all of them where none is named")
    command.add_argument("--words", action="append", default=[], metavar="FILE", help="a Python file with words of your own")
    what = "play finished runs again with changed code: equal numbers keep the version of a word, other numbers raise it"
    command = commands.add_parser("accept", help=what, description=what)
    command.add_argument("--raise", dest="raised", action="store_true", help="raise the versions of words that give other numbers")
    command = commands.add_parser("data", help="fetch a data set into the cache folder", description="fetch a data set")
    command.add_argument("name", help="fashion-mini, fashion-mnist, cifar10, cifar100 or synthetic")
    return parser


def main(arguments: list[str] | None = None) -> int:
    from reducenet.data.sources import DataError
    from reducenet.store import StoreError
    from reducenet.study.read import StudyError
    from reducenet.words import MoveError, add
    from reducenet.words.lock import Tripped

    options = _parser().parse_args(arguments)
    try:
        for file in getattr(options, "words", ()):
            add(file)
        return {"plan": _plan, "run": _run, "status": _status, "report": _report, "words": _words, "accept": _accept,
                "data": _data}[options.command](options)  # fmt: skip
    except (StudyError, StoreError, DataError, MoveError, Tripped) as error:
        print(f"reducenet: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reducenet: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nreducenet: interrupted; what is finished is in the store, the same command goes on from there", file=sys.stderr)
        return 130


def _open(options):
    from reducenet.store import Store
    from reducenet.study.plan import plan

    path = Path(options.study)
    if path.suffix != ".toml":
        path = Path("ablations") / f"{path}.toml"
    planned = plan(path, options.device)
    return planned, Store(options.store or path.parent / "store")


def _plan(options) -> int:
    from reducenet.study.overview import print_plan
    from reducenet.study.preview import refusals

    planned, store = _open(options)
    print_plan(planned, store)
    refused = 0
    for line in refusals(planned, store):
        print(f"refused: {line}", flush=True)
        refused += 1
    return 2 if refused else 0


def _status(options) -> int:
    from reducenet.study.overview import print_status

    return print_status(*_open(options))


def _run(options) -> int:
    from reducenet.study import preview
    from reducenet.study.plan import words_used
    from reducenet.study.run.drive import drive, known
    from reducenet.words import lock

    if options.workers is not None and options.workers < 1:
        raise SystemExit(_Parser(prog="reducenet run").error(f"--workers must be at least 1, not {options.workers}"))
    planned, store = _open(options)
    if len(known(planned, store)) <= len(planned.runs):  # something is to do
        lock.check(words_used(planned))
        preview.check(planned, store)
    states = drive(planned, store, options.workers, options.serial, only=options.only)
    trouble = [state for state in states.values() if state["state"] in ("failed", "blocked")]
    print(f"{planned.name}: {len(states) - len(trouble)} of {len(states)} runs are in {store.folder}"
          + (f"; {len(trouble)} failed or blocked, `reducenet status {options.study}` says why" if trouble else ""))  # fmt: skip
    return int(bool(trouble))


def _report(options) -> int:
    from reducenet.study.report.publish import write

    planned, store = _open(options)
    page, fresh = write(planned, store, Path(options.out) if options.out else None, options.force, options.timings)
    print(os.path.relpath(page) + ("" if fresh else " (up to date)"))
    return 0


def _words(options) -> int:
    from reducenet.words.grammar import show, table

    print(table() if options.table else show(options.word))
    return 0


def _accept(options) -> int:
    from reducenet.study.accept import accept

    return accept(options.raised)


def _data(options) -> int:
    from reducenet.data.sources import download

    print(f"{options.name} is in {download(options.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
