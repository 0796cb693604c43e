"""The command line: `reducenet plan|tune|run|status|report|publish|reproduce STUDY`, `try FILE.py IMAGES`, `claims`, `words`,
`accept`, `data`.

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
        "tune": "choose the learning rate of every arm, on validation images, where the study asks for it",
        "run": "run what the store does not have yet",
        "status": "say what is done, running, failed and left",
        "report": "write build/reports/STUDY from the store",
        "publish": "write reports/STUDY from the store, then what follows from it: reports/claims, README, CITATION.cff",
        "reproduce": "train all of a published study from nothing, and say which of its rows are equal to the last digit",
    }
    for name, what in verbs.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("study", help="a study file (ablations/quick.toml) or its name (quick)")
        command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="instead of the study's own")
        command.add_argument(
            "--together", type=_together, metavar="N", help='instead of the study\'s own: train N replicates at once, or "auto"'
        )
        own = "one that is deleted afterwards" if name == "reproduce" else "store/ beside the study file"
        command.add_argument("--store", help=f"folder of finished runs; default: {own}")
        command.add_argument(
            "--words", action="append", default=[], metavar="FILE", help="a Python file with words of your own; it is run as code"
        )
        if name == "run":
            command.add_argument("--only", metavar="RUN", help="one run, as lora/s3, with all that it needs")
        if name in ("tune", "run"):
            command.add_argument("--serial", action="store_true", help="one run after the other in this process, without Dask")
            command.add_argument("--workers", type=int, help="processes; default: one a core, one alone on a GPU")
        if name == "reproduce":
            command.add_argument("--workers", type=int, help="processes; default: one a core, one alone on a GPU")
        if name == "report":
            command.add_argument("--out", help="folder of the report; default: build/reports/STUDY beside the study's folder")
        if name in ("report", "publish"):
            command.add_argument("--force", action="store_true", help="write it even if nothing has changed")
            command.add_argument("--timings", action="store_true", help="write this machine's timings even if the results are the same")
    what = "the article's recipe on a network and images of your own: four arms, what it costs and what it buys"
    command = commands.add_parser("try", help=what, description=what)
    command.add_argument("network", metavar="FILE.py", help="a Python file that declares your network with @build; it is run as code")
    command.add_argument("images", help="an .npz of images and labels, a folder of pictures by class, or the name of a data set")
    command.add_argument("--net", metavar="NAME", help="the network, where the file declares several")
    command.add_argument("--at", default="*", metavar="PATTERN", help="the convs that get a branch; default: all that can")
    command.add_argument("--expansion", type=int, default=4, help="inner width of a branch over the conv's channels; default: 4")
    command.add_argument("--epochs", type=int, default=3, help="of each training; default: 3")
    command.add_argument("--lr", type=float, default=0.1, help="peak learning rate of each training; default: 0.1")
    command.add_argument("--seeds", type=int, default=5, help="replicates; default: 5, the least that make a result")
    command.add_argument("--out", help="folder of the study, its store and its report; default: NAME-tried")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: a GPU where there is one")
    command.add_argument("--serial", action="store_true", help="one run after the other in this process, without Dask")
    command.add_argument("--workers", type=int, help="processes; default: one a core, one alone on a GPU")
    command = commands.add_parser(
        "claims", help="the verdict of every claim", description="the verdict of every claim, from published rows"
    )
    command.add_argument(
        "--register", action="store_true", help="take new claims into the record of what was registered, before their runs"
    )
    command.add_argument("--publish", action="store_true", help="write reports/claims, README's opening and CITATION.cff anew")
    command = commands.add_parser(
        "words", help="the words of a sentence: what they do and take", description="the grammar, or one word of it"
    )
    command.add_argument("--table", action="store_true", help="as README shows them")
    command.add_argument("word", nargs="?", help="a move, a loss, a block or a data set; all of them where none is named")
    command.add_argument("--words", action="append", default=[], metavar="FILE", help="a Python file with words of your own")
    what = "play finished runs again with changed code: equal numbers keep the version of a word, other numbers raise it"
    command = commands.add_parser("accept", help=what, description=what)
    command.add_argument("--raise", dest="raised", action="store_true", help="raise the versions of words that give other numbers")
    what = "fetch a data set into the cache folder, or look at images of your own"
    command = commands.add_parser("data", help=what, description=what)
    command.add_argument(
        "name", help="fashion-mini, fashion-mnist, cifar10, cifar100 or synthetic; or a place, as my_images.npz or pictures/"
    )
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
        verbs = [_plan, _tune, _run, _status, _report, _publish, _reproduce, _try, _claims, _words, _accept, _data]
        return {verb.__name__.removeprefix("_"): verb for verb in verbs}[options.command](options)
    except (StudyError, StoreError, DataError, MoveError, Tripped) as error:
        print(f"reducenet: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reducenet: error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nreducenet: interrupted; what is finished is in the store, the same command goes on from there", file=sys.stderr)
        return 130


def _together(said: str) -> int | str:
    if said != "auto" and not (said.isdecimal() and int(said)):
        raise argparse.ArgumentTypeError(f'must be "auto" or a whole number from 1 on, not {said!r}')
    return said if said == "auto" else int(said)


def _place(options):
    """The study's file, its store, and what is said in place of its own."""
    from reducenet.store import Store

    path = Path(options.study)
    if path.suffix != ".toml":
        path = Path("ablations") / f"{path}.toml"
    return path, Store(options.store or path.parent / "store"), {"together": options.together} if options.together else {}


def _open(options):
    from reducenet.study.plan import plan

    path, store, instead = _place(options)
    return plan(path, options.device, **instead), store


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


def _check_workers(options) -> None:
    if options.workers is not None and options.workers < 1:
        raise SystemExit(_Parser(prog=f"reducenet {options.command}").error(f"--workers must be at least 1, not {options.workers}"))


def _tune(options) -> int:
    from reducenet.study.tuning.choices import file_of
    from reducenet.study.tuning.choose import tune

    _check_workers(options)
    path, store, instead = _place(options)
    choices, trouble = tune(path, store, options.device, options.workers, options.serial, **instead)
    for state in trouble:
        print(f"{state['name']}: {state['error']}")
    if trouble:
        print(f"{path.stem}: {len(trouble)} runs failed or were blocked; nothing is chosen, the same command goes on from there")
        return 1
    for arm, choice in choices.items():
        print(f"{arm}: lr {choice.lr:g} of {', '.join(f'{variant.lr:g}' for variant in choice.tried)}")
    print(f"{path.stem}: the choices are in {file_of(path)}")
    return 0


def _run(options) -> int:
    from reducenet.study import preview
    from reducenet.study.plan import words_used
    from reducenet.study.read import Untuned
    from reducenet.study.run.drive import drive, known
    from reducenet.words import lock

    _check_workers(options)
    try:
        planned, store = _open(options)
    except Untuned:
        if failed := _tune(options):
            return failed
        planned, store = _open(options)
    if len(known(planned, store)) <= len(planned.runs):  # something is to do
        lock.check(words_used(planned))
        preview.check(planned, store)
    states = drive(planned, store, options.workers, options.serial, only=[options.only] if options.only else [])
    trouble = [state for state in states.values() if state["state"] in ("failed", "blocked")]
    print(f"{planned.name}: {len(states) - len(trouble)} of {len(states)} runs are in {store.folder}"
          + (f"; {len(trouble)} failed or blocked, `reducenet status {options.study}` says why" if trouble else ""))  # fmt: skip
    return int(bool(trouble))


def _report(options) -> int:
    from reducenet.study.report.publish import write

    planned, store = _open(options)
    out = Path(options.out) if options.out else _project(planned) / "build" / "reports" / planned.name
    return _said(*write(planned, store, out, options.force, options.timings))


def _publish(options) -> int:
    from reducenet.study.claims import publish
    from reducenet.study.report.publish import write

    planned, store = _open(options)
    _said(*write(planned, store, _project(planned) / "reports" / planned.name, options.force, options.timings))
    publish.publish(_project(planned))
    return 0


def _project(planned) -> Path:
    """The folder that ablations/ and reports/ stand in."""
    return planned.path.absolute().parents[1]


def _said(page: Path, fresh: bool) -> int:
    print(os.path.relpath(page) + ("" if fresh else " (up to date)"))
    return 0


def _reproduce(options) -> int:
    from reducenet.study.plan import words_used
    from reducenet.study.reproduce import reproduce
    from reducenet.words import lock

    planned, _ = _open(options)
    lock.check(words_used(planned))
    return reproduce(planned, Path(options.store) if options.store else None, options.workers)


def _try(options) -> int:
    from reducenet.study.report.prose import Report
    from reducenet.study.report.publish import write
    from reducenet.study.report.tables import read_rows
    from reducenet.study.trial import prepared, print_outcome
    from reducenet.words import add

    add(options.network)
    said = {name: getattr(options, name) for name in ("net", "at", "expansion", "epochs", "lr", "seeds")}
    file, new = prepared(options.network, options.images, options.out, **said)
    options.study, options.only, options.together, options.store = str(file), None, None, None
    refused = 2
    try:
        refused = _plan(options)
    finally:
        if refused and new:  # the next try says it otherwise
            file.unlink()
    failed = refused or _run(options)
    if failed:
        return failed
    planned, store = _open(options)
    page, fresh = write(planned, store, file.parent / "report")
    print_outcome(Report(planned.study, read_rows(page.parent)))
    return _said(page, fresh)


def _claims(options) -> int:
    from reducenet.study.claims import overview, publish, registered

    project = Path.cwd()
    if options.register:
        registered.take(project)
    if options.publish:
        publish.publish(project)
    return overview.print_verdicts(project)


def _words(options) -> int:
    from reducenet.words.grammar import show, table

    print(table() if options.table else show(options.word))
    return 0


def _accept(options) -> int:
    from reducenet.study.accept import accept

    return accept(options.raised)


def _data(options) -> int:
    from reducenet.data.sources import download, is_own

    if is_own(options.name):
        from reducenet.data.tensors import about, load

        for what, found in about(load(options.name)).items():
            print(f"{what}: {found}")
    else:
        print(f"{options.name} is in {download(options.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
