"""Pages executed: by papermill, two at a time, and not again while neither the page nor what it is made of has changed."""

import contextlib
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from reducenet.course.evidence import project
from reducenet.study.run.kernels import SocketKernelManager

PACKAGE = Path(__file__).parents[2]
SMOKE = {"profile": "smoke", "dataset": "synthetic"}
AT_ONCE = 2
KEPT = 4  # versions of a page that are remembered


class PageError(RuntimeError):
    """A page does not run, or cannot be shown; one line that names it."""


def executed(notebooks: list[Path], cache: Path, smoke: bool = False, say: Callable[[str], None] = print) -> dict[Path, NotebookNode]:
    """Every notebook with its outputs, from `cache` where it has them. Raises `PageError` for the first that does not run."""
    cache, about = cache.resolve(), made_of()
    cache.mkdir(parents=True, exist_ok=True)
    kept = {notebook: cache / f"{notebook.stem}-{_key(notebook, smoke, about)}.ipynb" for notebook in notebooks}
    missing = [notebook for notebook in notebooks if not kept[notebook].is_file()]
    say(f"pages: {len(notebooks) - len(missing)} of {len(notebooks)} executed before")
    # A kernel is a process of its own. All start in one folder: papermill's `cwd` moves the whole process, which two threads cannot do.
    with contextlib.chdir(cache), ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for done in as_completed([pool.submit(_execute, notebook, kept[notebook], smoke) for notebook in missing]):
                say(done.result())
        except PageError:
            pool.shutdown(cancel_futures=True)
            raise
    return {notebook: nbformat.read(file, as_version=4) for notebook, file in kept.items()}


def made_of() -> bytes:
    """A hash of what pages read besides themselves: the package, the studies, the recorded rows."""
    site, root = Path(__file__).parent, project()
    files = [file for file in PACKAGE.rglob("*") if file.is_file() and "__pycache__" not in file.parts and site not in file.parents]
    files += [*root.glob("ablations/*.toml"), *root.glob("ablations/claims/*"), *root.glob("reports/*/*.csv")]
    digest = hashlib.sha256(version("torch").encode())
    for file in sorted(files):
        digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def _key(notebook: Path, smoke: bool, about: bytes) -> str:
    return hashlib.sha256(notebook.read_bytes() + about + json.dumps(_given(notebook, smoke)).encode()).hexdigest()[:16]


def _given(notebook: Path, smoke: bool) -> dict:
    """What papermill is given: of the smoke profile what the page has a parameter for."""
    cells = [c.source for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    return {name: value for name, value in SMOKE.items() if smoke and re.search(rf"^{name}\b", "\n".join(cells), re.MULTILINE)}


def _execute(notebook: Path, kept: Path, smoke: bool) -> str:
    """Puts the executed notebook there, whole or not at all; a line that says so."""
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from papermill.exceptions import PapermillExecutionError

    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        out = Path(folder) / "out.ipynb"
        try:
            papermill.execute_notebook(
                notebook, out, _given(notebook, smoke), kernel_name="python3", progress_bar=False, log_output=False,
                kernel_manager_class=SocketKernelManager)  # fmt: skip
        except PapermillExecutionError as error:
            said = " ".join(f"{error.ename}: {error.evalue}".split())
            raise PageError(f"{notebook.name} does not run: cell {error.cell_index} stops with {said}") from None
        except Exception as error:  # a kernel that died, say
            raise PageError(f"{notebook.name} does not run: {type(error).__name__}: {' '.join(str(error).split())}") from None
        finally:
            ensure_event_loop().close()  # that of this thread, which talked to the kernel
        out.replace(kept)
    return f"{notebook.stem} ran in {time.monotonic() - start:.0f} s"


def tidy(cache: Path) -> None:
    """Of everything that has a hash in its name, the newest few stay."""
    by_name: dict[str, list[Path]] = {}
    for file in sorted(cache.glob("*-*.*"), key=lambda file: file.stat().st_mtime, reverse=True):
        by_name.setdefault(file.stem.rpartition("-")[0], []).append(file)
    for old in (file for files in by_name.values() for file in files[KEPT:]):
        old.unlink(missing_ok=True)
