"""Where a run was made, as far as it changes its numbers."""

import platform
import resource
from pathlib import Path

import torch


def instructions() -> str:
    """What of the machine changes the last digits, as far as it has a name: the instructions that torch uses."""
    return torch.backends.cpu.get_cpu_capability()


def environment(device: str) -> dict:
    """Where this process runs. The processor's name is Linux's, or what Python knows elsewhere."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": next(filter(None, [*names, platform.processor(), platform.machine()])),
        "instructions": instructions(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
