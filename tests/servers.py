"""Servers for browser tests: started on a free port, asked until they answer, ended; and pages as they are served, in the smoke profile."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat

SMOKE = {"profile": "smoke", "dataset": "synthetic"}


@contextlib.contextmanager
def served(command: list[str], cwd: Path, answers: str, **environment: str):
    """The address of `python -m ...command` with `{port}` filled in, once it answers under the path `answers`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [part.format(port=port) for part in command]
    log = cwd / f"server-{port}.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=cwd, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}{answers}", timeout=5).close()
                break
            assert server.poll() is None, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@contextlib.contextmanager
def jupyterlab(root: Path, home: Path):
    """The address of a JupyterLab on the folder `root` that has trusted nothing yet: what it remembers lies in `home`."""
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # every cell is there, on the screen or not
    command = ["jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}",
               "--IdentityProvider.token=test", "--LabApp.news_url=None", f"--ServerApp.root_dir={root}",
               "--ServerApp.port_retries=0"]  # fmt: skip
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTERLAB_SETTINGS_DIR": "settings",
              "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython"}  # fmt: skip
    with served(command, root, "/api/status?token=test", **{name: str(home / place) for name, place in places.items()}) as address:
        yield address


def in_smoke(notebook: Path, out: Path) -> Path:
    """A copy of the page whose parameters are those of the smoke profile, in the folder `out`."""
    page = nbformat.read(notebook, as_version=4)
    for cell in page.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for name, value in SMOKE.items():
                cell.source = re.sub(rf'^({name}: str = )"[^"]*"', rf'\1"{value}"', cell.source, flags=re.MULTILINE)
    out.mkdir(parents=True, exist_ok=True)
    nbformat.write(page, out / notebook.name)
    return out / notebook.name
