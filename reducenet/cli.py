"""The command line: `reducenet plan|tune|run|status|report|publish|reproduce STUDY`, `try FILE.py IMAGES`, `claims`, `words`,
`accept`, `data`.

Exit codes: 0 all is well, 1 a run failed, 2 bad input (one line, nothing trained, nothing lost), 130 interrupted.
"""

import os
import sys
from pathlib import Path

from reducenet.options import Parser, parser


def main(arguments: list[str] | None = None) -> int:
    from reducenet.data.sources import DataError
    from reducenet.store import StoreError
    from reducenet.study.read import StudyError
    from reducenet.words import MoveError, add
    from reducenet.words.lock import Tripped

    options = parser().parse_args(arguments)
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
        raise SystemExit(Parser(prog=f"reducenet {options.command}").error(f"--workers must be at least 1, not {options.workers}"))


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
    from reducenet.study.report.publish import redraw, write
    from reducenet.study.run.drive import check_finished

    planned, store = _open(options)
    out = _project(planned) / "reports" / planned.name
    if options.redraw:
        if options.force or options.timings:
            raise SystemExit(
                Parser(prog="reducenet publish").error("--redraw makes the pages anew anyway and keeps the timings; say it alone")
            )
        _said(redraw(planned, out), True)
    else:
        check_finished(planned, store)
        _said(*write(planned, store, out, options.force, options.timings))
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
