"""What a network costs: parameters, MACs, training MACs, latency.

MACs are multiply-adds of convolutions and linear layers only, for one image; twice that in FLOPs.
"""

import logging

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import flop_registry

from reducenet.learn.evaluate import in_eval
from reducenet.learn.losses import cross_entropy
from reducenet.moves.surgery import copied

# A side branch in weight space is a bmm, paid once a step and not once an image: it does not count.
LAYERS = (torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm)


def parameters(net: nn.Module) -> int:
    """Numbers that a deployed network has to store as parameters, BN's included, its statistics not."""
    return sum(p.numel() for p in net.parameters())


def macs(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """MACs of one forward pass of one image of `shape` (C, H, W)."""
    net = in_eval(net)
    with torch.no_grad(), Count() as count:
        try:
            net(_zeros(net, 1, shape))
        except RuntimeError as error:
            raise ValueError(f"macs: the network takes no images of {tuple(shape)} (C, H, W): {str(error).splitlines()[0]}") from error
    return count.macs


def training_macs(net: nn.Module, shape: tuple[int, int, int], loss=cross_entropy, batch: int = 8, steps: int = 1) -> int:
    """MACs that training spends on one image, counted on real steps: forward, gradients, and the teacher's forward where there is one.

    Frozen layers save their weight gradients, and the layers below the lowest trainable one everything backward. A loss that draws
    what it computes at random costs what it does on average: take more `steps`.
    """
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError("training: every parameter is frozen; attach a side branch or freeze less")
    net = copied(net).train()
    x = _zeros(net, batch, shape)
    with Count() as count:
        for _ in range(steps):
            value, _ = loss(net, x, torch.zeros(batch, dtype=torch.long, device=x.device))
            value.backward()
    return count.macs // (batch * steps)


def latency(net: nn.Module, shape: tuple[int, int, int], batch: int = 1, threads: int = 1, seconds: float = 0.2) -> dict:
    """Seconds of one forward pass in eval mode: median and interquartile range over at least `seconds` of runs."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # the next import looks for a CUDA compiler, and says so
    from torch.utils.benchmark import Timer

    net = in_eval(net)
    x = _zeros(net, batch, shape)
    with torch.no_grad(), _disable_current_modes():  # a `Count` around this would be timed too
        timer = Timer("net(x)", globals={"net": net, "x": x}, num_threads=threads)
        timer.timeit(3)  # warm up
        timed = timer.blocked_autorange(min_run_time=seconds)
    return {"median": timed.median, "iqr": timed.iqr, "batch": batch, "threads": threads}


class Count(TorchDispatchMode):
    """`with Count() as count: ...` leaves the MACs of everything that ran inside in `count.macs`, training steps and evaluations alike.

    torch's own formulas, for our layers only; `FlopCounterMode` agrees, but makes torch load its compiler first (2 s a process), and
    both take the weight gradient of a grouped conv for that of a dense one. Here each gradient costs what the forward pass did.
    """

    flops = 0

    @property
    def macs(self) -> int:
        return self.flops // 2

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, so there is no compiler to keep out

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket is torch.ops.aten.convolution_backward:
            grad, _, weight, *_, wanted = args  # [N, out, H', W'], ..., [out, in / groups, k, k], ..., (input, weight, bias)
            self.flops += 2 * sum(wanted[:2]) * grad.numel() // grad.shape[1] * weight.numel()
        elif func._overloadpacket in LAYERS:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def _zeros(net: nn.Module, batch: int, shape: tuple[int, int, int]) -> Tensor:
    like = next(net.parameters(), torch.zeros(()))
    return torch.zeros(batch, *shape, dtype=like.dtype, device=like.device)
