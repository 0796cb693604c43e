"""Where a network trains, in which memory layout, and in which precision."""

from collections.abc import Callable

import torch
from torch import nn


def device_for(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA, else MPS, else the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f'device {name!r} was asked for, but this torch sees no CUDA device; use "cpu" or "auto"')
    return torch.device(name)


def memory_layout(net: nn.Module, device: torch.device) -> torch.memory_format:
    """`channels_last`, the faster one, but where torch 2.14 cannot be trusted with it: on the CPU, the backward of a 1x1 convolution of
    stride 2 with fewer than 8 input channels writes out of bounds."""
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    narrow = any(m.kernel_size == (1, 1) and m.stride != (1, 1) and m.in_channels < 8 for m in convs)
    return torch.contiguous_format if narrow and device.type == "cpu" else torch.channels_last


def precision(device: torch.device) -> tuple[Callable, torch.amp.GradScaler]:
    """What a step computes in: a context for the pass forward, and what scales the loss. On CUDA bfloat16, or float16 with scaled gradients
    where it knows no bfloat16; elsewhere float32, and nothing is scaled."""
    cuda = device.type == "cuda"
    half = torch.bfloat16 if cuda and torch.cuda.is_bf16_supported() else torch.float16
    scaler = torch.amp.GradScaler(device.type, enabled=cuda and half is torch.float16)
    return lambda: torch.autocast(device.type, half, enabled=cuda), scaler
