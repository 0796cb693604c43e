"""Every BatchNorm of a network, in whatever way it is called: what it computes at a node, and why one that stays could not be folded."""

import inspect
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet.algebra.plain import NotExact, is_batch_norm, more
from reducenet.deploy.trace import Rewriting, outers

CALL = inspect.signature(F.batch_norm)


def batch_norm(net: Rewriting, node: fx.Node, kind: type[nn.Module]) -> nn.Module | None:
    """The BatchNorm that `node` computes, as a module; of this `kind` where it is called by `F.batch_norm`. None where it is no BatchNorm.

    `NotExact` for one that cannot be taken away, or that uses the statistics of its batch.
    """
    if node.op == "call_module":
        module = net.root.get_submodule(node.target)
        if not isinstance(module, _BatchNorm):
            return None
        if more(module):
            raise NotExact(f"fold: the BatchNorm has {more(module)}")
        if net.own(node, type(module)) is None:
            raise NotExact("fold: the BatchNorm is called more than once, or its numbers are read elsewhere")
        return module
    if node.target is not F.batch_norm:
        return None
    given = CALL.bind(*node.args, **node.kwargs)
    given.apply_defaults()
    said = given.arguments
    if said["training"] is not False:
        raise NotExact("fold: it normalises with the statistics of its batch in eval mode too")
    names = ("running_mean", "running_var", "weight", "bias")
    tensors = [_tensor(net, said[name]) for name in names]
    if tensors[0] is None or tensors[1] is None:
        raise NotExact("fold: the BatchNorm keeps no running statistics")
    made = kind(len(tensors[0]), eps=said["eps"], device="meta").eval()
    for name, tensor in zip(names, tensors, strict=True):
        setattr(made, name, tensor if tensor is None or name.startswith("running") else nn.Parameter(tensor.detach(), tensor.requires_grad))
    made.num_batches_tracked = None
    return made


def _tensor(net: Rewriting, value) -> torch.Tensor | None:
    """The parameter or buffer that is read here and nowhere else."""
    if value is None:
        return None
    if not isinstance(value, fx.Node) or value.op != "get_attr" or len(value.users) > 1:
        raise NotExact("fold: what the BatchNorm normalises with is computed in each pass, or read elsewhere")
    owner, _, name = value.target.rpartition(".")
    return getattr(net.root.get_submodule(owner), name)


def batch_norm_2d(net: Rewriting, node: fx.Node) -> nn.Module | None:
    """The BatchNorm of maps that `node` computes and that may be taken away; None where there is none."""
    with suppress(NotExact):
        found = batch_norm(net, node, nn.BatchNorm2d)
        return found if isinstance(found, nn.BatchNorm2d) and is_batch_norm(found) else None


def drop_check(net: Rewriting, node: fx.Node) -> bool:
    """`assert x.ndim == 4` of what a Conv2d has made of a batch holds: gone, and the conv has one reader less."""
    asked = node.args[0] if node.target is torch._assert else None
    if not isinstance(asked, fx.Node) or getattr(asked.target, "__name__", "") != "eq":
        return False
    of, wanted = asked.args
    asks = isinstance(of, fx.Node) and ((of.target is getattr and of.args[1] == "ndim") or (of.op == "call_method" and of.target == "dim"))
    conv = net.called(of.args[0]) if asks else None
    if not isinstance(conv, nn.modules.conv._ConvNd) or wanted != len(conv.kernel_size) + 2:
        return False
    value = of.args[0]
    net.graph.erase_node(node)
    for idle in list(value.users)[::-1]:
        for dead in [*idle.users, idle]:
            if not dead.users and (dead.target is getattr or dead.target == "dim" or dead is asked):
                net.graph.erase_node(dead)
    return True


def leave_unsaid(net: nn.Module, left: dict[tuple[str, ...], str]) -> None:
    """Adds to `left` every norm with running statistics that is still in `net` and that nobody has said a word about."""
    said = {name for names in left for name in names}
    modules = dict(net.named_modules())
    for name, module in modules.items():
        if not isinstance(module, _BatchNorm) and "running_mean" not in module._buffers:
            continue
        if said & set(outers(name)):
            continue
        around = next((outer for outer in outers(name)[:-1] if more(modules[outer])), None)
        if around:
            why = f"fold: it stands in {around}, which has {more(modules[around])}"
        elif more(module):
            why = f"fold: it has {more(module)}"
        elif not is_batch_norm(module):
            why = "fold: it is no BatchNorm of torch, or has a forward of its own that cannot be followed"
        else:
            why = "fold: it stands in a layer that is called as a whole, or is called from outside"
        left[(name,)] = why
