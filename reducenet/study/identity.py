"""What makes two runs the same run: everything before it, its parameters, seed, data, numerics and code, hashed into one key."""

import ast
import hashlib
import importlib.metadata
import json
import os
from functools import cache
from pathlib import Path

from reducenet.home import homes
from reducenet.study.grammar import StudyError

PACKAGE = Path(__file__).parents[1]


def key(**parts) -> str:
    """The first 16 hex digits of the SHA-256 of `parts` as canonical JSON (sorted keys, no spaces)."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


CORE = (
    "activation", "algebra", "blocks", "borders", "chain", "checkpoint", "data", "deploy", "distill", "graph", "measure", "moves", "names",
    "net", "seeding", "side", "train",
)  # fmt: skip
REPORT = ("style", "study/figures", "study/page", "study/report", "study/rows", "study/statistics", "study/words")


@cache
def core_code() -> str:
    """A hash of the modules that make a run's numbers. Comments, docstrings and layout do not count."""
    return _code_of(CORE)


def code_of(moves: list[dict]) -> str:
    """A hash of the modules outside the core that these moves use, with all that those import: a method more changes no other's keys."""
    try:
        found, new = set(), {home.replace(".", "/") for home in homes(moves)}
        while new := new - found - set(CORE):
            found |= new
            new = {name for module in new for name in _imports(module)}
    except (LookupError, OSError) as error:
        missing = f"{error.filename} is not there; see reducenet/home.py" if isinstance(error, OSError) else error.args[0]
        raise StudyError(missing) from None
    return _code_of(tuple(sorted(found))) if found else ""


@cache
def _imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports."""
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reducenet.")}
    return frozenset(name.removeprefix("reducenet.").replace(".", "/") for name in named)


@cache
def report_code() -> str:
    """A hash of the modules, the template and the style sheet that make a report from rows."""
    return key(
        code=_code_of(REPORT), looks=[(PACKAGE / "study" / f"report.{kind}").read_text("utf-8") for kind in ("md.j2", "html.j2", "css")]
    )


def _code_of(modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module in modules:
        digest.update(f"{module}\n{_meaning((PACKAGE / f'{module}.py').read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:16]


@cache
def notebook_code(path: Path) -> str:
    """A hash of a notebook's code cells; text, outputs and ids do not count."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: not a readable notebook ({type(error).__name__}); `python notebooks/build.py` makes it") from None
    return hashlib.sha256(_meaning(source).encode()).hexdigest()[:16]


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def device(asked: str) -> str:
    """The device type that "auto" stands for here, found without torch: "cuda" where there is a driver and a torch that uses it."""
    if asked != "auto":
        return asked
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    driver = Path("/proc/driver/nvidia/version").exists() and any(Path("/dev").glob("nvidia[0-9]*"))
    return "cuda" if driver and not hidden and "+cpu" not in importlib.metadata.version("torch") else "cpu"


def numerics(asked_device: str, threads: int) -> dict:
    """What changes floating-point results: device type, threads, torch's minor version."""
    version = importlib.metadata.version("torch").split("+")[0].rsplit(".", 1)[0]
    return {"device": device(asked_device), "threads": threads, "torch": version}
