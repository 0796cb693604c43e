"""What the command line takes: every command, its arguments, and what `--help` says of them."""

import argparse
import sys


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def parser() -> Parser:
    made = Parser(prog="reducenet", description="Plan, run and report ablation studies of networks that shed a branch.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
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
        if name == "publish":
            command.add_argument(
                "--redraw", action="store_true", help="make the pages anew from the rows and runs that are published; needs no store"
            )
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
    return made


def _together(said: str) -> int | str:
    if said != "auto" and not (said.isdecimal() and int(said)):
        raise argparse.ArgumentTypeError(f'must be "auto" or a whole number from 1 on, not {said!r}')
    return said if said == "auto" else int(said)
