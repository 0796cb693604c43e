"""Which small changes to the code does no test notice? `python tests/mutate.py [--count N] [--seed N] [MODULE ...]`, or `make mutants`.

One place at a time is changed in a copy of the project, and the tests of that module run until one fails. What survives is printed: it is
missing a test, or changes nothing that matters.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
TESTS = {
    "words/word": "words read", "words/declared": "words own_words", "words/sentence": "words plan read", "words/lock": "lock plan",
    "words/meaning": "lock", "words/grammar": "words", "words/face": "lock words", "study/read": "read words plan",
    "study/plan": "plan drive", "study/key": "plan cli", "study/preview": "preview cli", "study/aside": "aside",
    "study/accept": "accept", "study/run/execute": "drive run", "study/run/drive": "drive run", "store": "store drive",
    "study/run/progress": "progress", "study/estimate": "progress cli", "study/overview": "cli drive",
    "study/report/statistics": "statistics images verdicts", "study/report/answer": "report page", "study/report/images": "images report",
    "study/report/rows": "report run", "study/report/tables": "report", "study/report/prose": "report page",
    "study/report/text": "report page", "study/report/tuned": "tune report", "study/report/runs": "claim_pages",
    "study/claims/verdict": "verdicts second_look claims claim_pages", "study/claims/register": "claims second_look verdicts claim_pages",
    "study/claims/registered": "claims claim_pages", "study/claims/records": "claims second_look claim_pages",
    "study/claims/central": "claim_pages panel_budget", "study/claims/rates": "rates",
    "study/claims/say": "claims claim_pages second_look", "study/claims/overview": "claim_pages",
    "study/claims/pages": "claim_pages second_look", "study/claims/publish": "claim_pages claims", "play/piece": "piece",
    "play/play": "play piece", "play/preview": "preview", "play/checkpoint": "checkpoint piece", "cli": "cli",
}  # fmt: skip
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not engine",
           "--deselect", "tests/test_lock.py::test_the_projects_lock_knows_the_source_as_it_is"]  # fmt: skip
FLIPPED = {ast.Eq: ast.NotEq, ast.Lt: ast.GtE, ast.Gt: ast.LtE, ast.In: ast.NotIn, ast.Is: ast.IsNot, ast.And: ast.Or, ast.Add: ast.Sub,
           ast.Mult: ast.FloorDiv, ast.BitAnd: ast.BitOr}  # fmt: skip
FLIPPED |= {new: old for old, new in FLIPPED.items()}
PASSED_OVER = ("annotation", "returns", "decorator_list")  # most decorators here are caches, which change no answer


def changed(node: ast.AST) -> ast.AST | None:
    """What could stand in place of the node."""
    new = copy.deepcopy(node)
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in FLIPPED:
            new.ops[0] = FLIPPED[type(op)]()
        case ast.BoolOp(op=op) | ast.BinOp(op=op) if type(op) in FLIPPED:
            new.op = FLIPPED[type(op)]()
        case ast.UnaryOp(op=ast.Not()):
            new = node.operand
        case ast.Constant(value=bool()):
            new.value = not node.value
        case ast.Constant(value=int() | float()):
            new.value = node.value + 1
        case ast.Constant(value=str()) if node.value.strip() and node.value != "utf-8":
            new.value = f"{node.value}?"
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant) or node.value.value is not None:
            new.value = ast.Constant(None)
        case ast.Call(keywords=[*_, last]) if last.arg != "encoding":
            new.keywords.pop()
        case ast.Call(args=[*_, _], keywords=[]):
            new.args.pop()
        case ast.Expr(value=ast.Call() | ast.Yield()) | ast.Assign() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            new = ast.Pass()
        case _:
            return None
    return new


def places(tree: ast.Module) -> list[tuple[int, str, ast.AST, str, int | None, ast.AST]]:
    """Line, change in words, parent, field, index and new node. Docstrings and wordings of errors are left as they are."""
    found, left = [], [tree]
    while left:
        parent = left.pop()
        body = getattr(parent, "body", None)
        documented = isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                said = isinstance(parent, ast.Raise) or isinstance(node, ast.JoinedStr) or (documented and field == "body" and index == 0)
                if not isinstance(node, ast.AST) or said or field in PASSED_OVER:
                    continue
                if new := changed(node):
                    found.append((getattr(node, "lineno", 0), f"{ast.unparse(node)}  ->  {ast.unparse(new)}", parent, field, index, new))
                left.append(node)
    return sorted(found, key=lambda place: (place[0], place[1]))


def survives(folder: Path, module: str, number: int) -> str | None:
    """The change in words if no test notices it, None otherwise."""
    file = Path("reducenet") / f"{module}.py"
    tree = ast.parse((ROOT / file).read_text())
    line, text, parent, field, index, new = places(tree)[number]
    setattr(parent, field, new) if index is None else getattr(parent, field).__setitem__(index, new)
    (folder / file).write_text(ast.unparse(ast.fix_missing_locations(tree)))
    command = [sys.executable, "-m", "pytest", *OPTIONS, *(f"tests/test_{name}.py" for name in TESTS[module].split())]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, env=os.environ | {"PYTHONPATH": str(folder)})
    except subprocess.TimeoutExpired:
        return None
    finally:
        shutil.copy(ROOT / file, folder / file)
    return f"reducenet/{module}.py:{line}: {' '.join(text.split())[:180]}" if done.returncode == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=[], help=f"of {', '.join(TESTS)}; all of them where none is named")
    parser.add_argument("--count", type=int, default=15, help="changes a module")
    parser.add_argument("--seed", type=int, default=0)
    options, jobs = parser.parse_args(), []
    for module in options.modules or TESTS:
        every = range(len(places(ast.parse((ROOT / "reducenet" / f"{module}.py").read_text()))))
        jobs += [(module, number) for number in random.Random(f"{options.seed} {module}").sample(every, min(options.count, len(every)))]
    folders: SimpleQueue = SimpleQueue()

    def run(job: tuple[str, int]) -> str | None:
        folder = folders.get()
        try:
            return survives(folder, *job)
        finally:
            folders.put(folder)

    with tempfile.TemporaryDirectory() as home, ThreadPoolExecutor(2) as pool:
        for name in ("one", "two"):
            folders.put(shutil.copytree(ROOT, Path(home) / name, ignore=shutil.ignore_patterns(".git", ".venv", "store", "__pycache__")))
        survivors = [text for text in pool.map(run, jobs) if text and not print(text, flush=True)]
    print(f"{len(survivors)} of {len(jobs)} changes were noticed by no test")
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
