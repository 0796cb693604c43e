"""Kernels that start in a tenth of a second: forked from one process a worker that has imported torch already.

Each run still has a kernel, a process and a memory of its own. Only the seconds of importing are shared, and for the runs of a quick
study they were more than half of the time. `ForkedProvisioner` is registered with Jupyter under the name in `ENVIRONMENT`; where processes
cannot be forked safely (anything but Linux), Jupyter's own is used. Sockets are Unix sockets with a name of their own: no port to race for.
"""

import multiprocessing
import os
import sys
import tempfile
import threading
import uuid

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

FORKS = sys.platform == "linux"
ENVIRONMENT = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "reducenet-forked"} if FORKS else {}
PRELOAD = ["ipykernel.kernelapp", "torch._dynamo", "reducenet.play.piece", "reducenet.play.show"]  # torch.optim loads torch._dynamo anyway


class SocketKernelManager(AsyncKernelManager):
    @default("transport")
    def _transport(self):
        return "tcp" if os.name == "nt" else "ipc"

    @default("ip")
    def _ip(self):
        return "127.0.0.1" if os.name == "nt" else os.path.join(tempfile.gettempdir(), f"reducenet-{uuid.uuid4().hex[:12]}")


class ForkedProvisioner(LocalProvisioner):
    """Launches a Python kernel by forking a process that has done the imports."""

    async def launch_kernel(self, cmd: list[str], **kwargs) -> dict:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        process = context.Process(target=_kernel, args=(arguments, dict(kwargs["env"]), kwargs.get("cwd") or os.getcwd()), daemon=True)
        process.start()
        self.process, self.pid, self.pgid = _Popen(process), process.pid, None
        return self.connection_info


def _kernel(arguments: list[str], environment: dict, folder: str) -> None:
    """The forked process: become a kernel in `folder`, with a log of what is written past the notebook."""
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()  # Ctrl-C in the terminal is for the driver, which then stops its kernels
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    log = os.open(".kernel.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    IPKernelApp.launch_instance(arguments)


def _end_with(worker) -> None:
    """A kernel ends when the worker that asked for it does, however that ended, be it in the middle of a training.

    The fork server does not: it lives as long as any of its kernels.
    """
    worker.join()
    os._exit(1)


class _Popen:
    """What LocalProvisioner needs of `subprocess.Popen`, told by a `multiprocessing.Process`."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        self.pid, self._process = process.pid, process

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, signum):
        os.kill(self.pid, signum)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()
