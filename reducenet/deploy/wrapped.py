"""What is no network but something around one, or a layer whose weights are not there: refused by name, with the remedy."""

from torch import jit, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from reducenet.algebra.plain import NotExact

WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "AveragedModel")  # their `module` is the network
HOOKS = {
    prune.BasePruningMethod: ("a pruning mask", "torch.nn.utils.prune.remove(module, {name!r})"),
    WeightNorm: ("weight norm by a hook", "torch.nn.utils.remove_weight_norm(module, {name!r})"),
    SpectralNorm: ("spectral norm by a hook", "torch.nn.utils.remove_spectral_norm(module, {name!r})"),
}


def refuse_wrapped(move: str, net: nn.Module) -> None:
    """Raises `NotExact` for the first module of `net` that is not what its weights say, in one line."""
    for name, module in net.named_modules():
        if reason := _reason(module):
            raise NotExact(f"{move}: {name or 'the network'} ({type(module).__name__}) {reason}")


def _reason(module: nn.Module) -> str:
    kind = type(module)
    tensors = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
    if isinstance(module, jit.ScriptModule):
        return "is TorchScript, which is finished; take the module that it was made of, and script the result"
    if kind.__name__ == "OptimizedModule":
        return "is what torch.compile made of a network; take its ._orig_mod, and compile the result"
    if module._compiled_call_impl is not None:
        return "was compiled in place by .compile(); copy it before that, or compile the result"
    if kind.__name__ in WRAPPERS and kind.__module__.startswith("torch."):
        return "is around a network; take its .module"
    if kind.__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
        return "is quantised; fuse first, then quantise"
    if any(isinstance(t, UninitializedTensorMixin) for t in tensors):
        return "has no weights yet; run the network once, on an example"
    if any(t.is_meta for t in tensors):
        return "is on the meta device, where there are no values; load its weights first"
    for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
        for sort, (what, remedy) in HOOKS.items():
            if isinstance(hook, sort):
                return f"has {what}; make it permanent: {remedy.format(name=getattr(hook, 'name', None) or hook._tensor_name)}"
    return ""
