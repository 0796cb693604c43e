"""What a layer must be before its numbers may be computed with: the layer of torch, and nothing that a call does beside it."""

import inspect
from itertools import chain

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.modules.lazy import LazyModuleMixin

CONVS = {
    nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d,
    nn.ConvTranspose1d: nn.BatchNorm1d, nn.ConvTranspose2d: nn.BatchNorm2d, nn.ConvTranspose3d: nn.BatchNorm3d,
}  # fmt: skip


INTERNAL = vars(nn.Module()).keys()


class NotExact(ValueError):
    """The replacement would not be the same function; the message says which rule is broken."""


def more(module: nn.Module) -> str:
    """What a call of `module` does beside the forward of its class, and nothing where it does no more."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "forward hooks (pruning masks, weight norm)"
    patched = [name for name in vars(module).keys() - INTERNAL if inspect.isroutine(getattr(type(module), name, None))]
    if patched:
        return f"a {min(patched)} of its own, put there from outside"
    if type(module).__module__.startswith("torch.nn."):  # a layer of torch whose class somebody has changed for the whole process
        for name in ("forward", "_conv_forward"):
            if not (getattr(getattr(type(module), name, None), "__module__", None) or "torch.").startswith("torch."):
                return f"another {name} in its class, put there from outside"
    return ""


def is_batch_norm(module: nn.Module) -> bool:
    """Whether `module` computes what torch's BatchNorm does: the class may be another, the forward is not."""
    kind = type(module)
    return (
        isinstance(module, _BatchNorm)
        and kind.forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
        and kind.__call__ is nn.Module.__call__
    )


def check(move: str, *convs: nn.Module) -> None:
    """Raises `NotExact` unless these are convs this package can merge and add, of one dtype on one device."""
    for conv in convs:
        if type(conv) is not nn.Conv2d:
            raise NotExact(f"{move}: a plain Conv2d is needed, not {type(conv).__name__}")
    check_same(move, *convs)
    for conv in convs:
        rules = {
            f"dilation={conv.dilation!r}": conv.dilation == (1, 1),
            f"padding_mode={conv.padding_mode!r}": conv.padding_mode == "zeros",
            f"padding={conv.padding!r}": not isinstance(conv.padding, str),
        }
        for rule, holds in rules.items():
            if not holds:
                raise NotExact(f"{move}: {rule} is not supported")


def check_pair(move: str, first: nn.Module, second: nn.Module) -> None:
    """Raises `NotExact` unless these are two convs this package can compute with, one feeding the other."""
    check(move, first, second)
    if first.out_channels != second.in_channels:
        raise NotExact(f"{move}: the first conv gives {first.out_channels} channels, the second takes {second.in_channels}")


def check_bn(move: str, bn: nn.Module, conv: nn.Module | None = None) -> None:
    """Raises `NotExact` unless this is a BN with statistics that stay, made for the channels of the conv before it, if there is one."""
    wanted = nn.BatchNorm2d if conv is None else CONVS.get(type(conv))
    if wanted is None:
        raise NotExact(f"{move}: a plain Conv1d, Conv2d, Conv3d or ConvTranspose is needed, not {type(conv).__name__}")
    fits = isinstance(bn, wanted) or (isinstance(bn, nn.SyncBatchNorm) and conv is not None)
    if not fits or isinstance(bn, LazyModuleMixin):
        raise NotExact(f"{move}: a {wanted.__name__} is needed, not {type(bn).__name__}")
    if not is_batch_norm(bn):
        raise NotExact(f"{move}: a {type(bn).__name__} has a forward of its own, which may do more than normalise; split it in two")
    if bn.training:
        raise NotExact(f"{move}: the BatchNorm is in train mode and uses the statistics of its batch; call .eval() first")
    if bn.running_mean is None or bn.running_var is None:
        raise NotExact(f"{move}: the BatchNorm keeps no running statistics")
    check_same(move, *([] if conv is None else [conv]), bn)
    if conv is not None and bn.num_features != conv.out_channels:
        raise NotExact(f"{move}: the conv gives {conv.out_channels} channels, the BatchNorm takes {bn.num_features}")


def check_same(move: str, *modules: nn.Module) -> None:
    """Raises `NotExact` unless all that these modules hold has one dtype, on one device, and nothing else happens in their calls."""
    tensors = [t for m in modules for t in tensors_of(m)]
    for name in ("device", "dtype"):
        found = sorted({str(getattr(t, name)) for t in tensors})
        if len(found) > 1:
            raise NotExact(f"{move}: the parts must agree in {name}, not have {' and '.join(found)}")
    if tensors[0].is_meta:
        raise NotExact(f"{move}: on the meta device there are no values to compute with")
    if not tensors[0].is_floating_point():
        raise NotExact(f"{move}: dtype={tensors[0].dtype} is not supported")
    for module in modules:
        if more(module):
            raise NotExact(f"{move}: a {type(module).__name__} with {more(module)} does more than its weights say; remove them")


def tensors_of(module: nn.Module) -> list:
    """All that a layer holds but a BN's count of batches."""
    counts = {"num_batches_tracked"}
    return [t for name, t in chain(module.named_parameters(), module.named_buffers()) if name.rpartition(".")[2] not in counts]


def is_transposed(conv: nn.Module) -> bool:
    return isinstance(conv, _ConvTransposeNd)
