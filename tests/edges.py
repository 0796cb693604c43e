"""Networks at the edges of what `fuse` and the moves can do, by kind, and what comes of each: `python tests/edges.py` writes docs/edges.md.

The oracle of every case is the network as it was written, in float64, with all its numbers far from fresh. A case answers with one line:
that both are equal and what became of the BNs, the reason for a refusal, or WRONG.
"""

import copy
import functools
import random
import re
from collections import OrderedDict, namedtuple
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F
from convs import filled
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, parametrize, prune, weight_norm

from reducenet import LambdaReLU, ScalerBlock, attach, drop_branch, fold, freeze, fuse, fuse_report, linearise, loosen
from reducenet.algebra.exact import bn_as_conv, fold_bn
from reducenet.deploy.fuse import fused
from reducenet.learn.evaluate import in_eval
from reducenet.learn.measure import latency, macs
from reducenet.words import MoveError

PAGE = Path(__file__).parents[1] / "docs" / "edges.md"
CASES: dict[tuple[str, str], object] = {}


def case(kind: str, what: str):
    def add(run):
        CASES[kind, what] = run
        return run

    return add


def answer(kind: str, what: str) -> str:
    """What the case gives today, in a line."""
    try:
        found = CASES[kind, what]()
    except (MoveError, ValueError) as refusal:
        found = f"refused: {refusal}"
    except Exception as error:
        found = f"WRONG: {type(error).__name__}: {str(error).splitlines()[0]}"
    return re.sub(r"edges\.py:\d+ `.*?`", "edges.py", found)


def images(channels=3, side=8, count=2, dims=2):
    draw = torch.Generator().manual_seed(side)
    return torch.randn(count, channels, *[side] * dims, generator=draw, dtype=torch.float64)


def norms(net):
    return sum(isinstance(m, _BatchNorm) or "running_mean" in m._buffers for m in net.modules())


@torch.no_grad()
def fusing(net, *inputs, example=None, again=lambda: None) -> str:
    """`fuse(net)` against `net`, each called on its own copy; `again` puts back what lies outside of both."""
    net = filled(net, str(net))
    inputs = inputs or (images(), images(side=11, count=1))
    again()
    expected = [copy.deepcopy(net)(x.clone()) for x in inputs]
    new, changes = fused(net, example=example)
    again()
    found = [new(x.clone()) for x in inputs]
    gap = max((a - b).abs().max().item() for a, b in zip(found, expected, strict=True))
    if gap > 1e-10 * max(y.abs().max().item() for y in expected):
        return f"WRONG by {gap:.1e}"
    left = "; ".join(dict.fromkeys(changes.left.values()))
    gone = ", ".join(step.what for step in changes.steps if step.rule == "unused")
    return f"equal; BNs {norms(net)} → {norms(new)}" + (f"; left: {left}" if left else "") + (f"; never called: {gone}" if gone else "")


def same(move, net, *inputs) -> str:
    """An exact move against the network that it was given."""
    net = filled(net, str(net))
    with torch.no_grad():
        gap = max((move(net)(x) - net(x)).abs().max().item() for x in inputs or (images(),))
    return "equal" if gap <= 1e-10 else f"WRONG by {gap:.1e}"


class Of(nn.Module):
    """conv, BN, and a forward to choose."""

    def __init__(self, forward, bn=None, **kept):
        super().__init__()
        self.conv, self.bn, self.does = nn.Conv2d(3, 4, 3, padding=1), bn or nn.BatchNorm2d(4), forward
        for name, value in kept.items():
            setattr(self, name, value)

    def body(self, x):
        return self.bn(self.conv(x))

    def forward(self, x):
        return self.does(self, x)


def conv_bn(bn, conv=None):
    return nn.Sequential(conv or nn.Conv2d(3, 4, 3, padding=1), bn)


# ---- a class for what only a type is


class BNReLU(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class BNAct(nn.BatchNorm2d):
    """As timm's: the normalisation by hand, then what stands in it."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        batch = self.training or (self.running_mean is None and self.running_var is None)
        return self.act(self.drop(F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, batch, 0.1, self.eps)))


class Branching(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else super().forward(x) + 1


class Written(nn.Module):
    """A BatchNorm written anew."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x):
        if self.training:
            self.running_mean.lerp_(x.mean((0, 2, 3)), 0.1)
            self.running_var.lerp_(x.var((0, 2, 3)), 0.1)
        return (x - self.running_mean[:, None, None]) * (self.running_var[:, None, None] + 1e-5).rsqrt()


class Named(nn.BatchNorm2d):
    """The same function."""


class Standardised(nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean((1, 2, 3), keepdim=True), self.bias)


class Same(nn.Conv2d):
    def forward(self, x):
        side = x.shape[-1]
        pad = max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0)
        return F.conv2d(F.pad(x, (pad // 2, pad - pad // 2) * 2), self.weight, self.bias, self.stride)


KIND = "a class where the type is meant"
case(KIND, "BN subclass that goes on to ReLU")(lambda: fusing(conv_bn(BNReLU(4))))
case(KIND, "BN + drop + activation in one (timm's)")(
    lambda: fusing(nn.Sequential(conv_bn(BNAct(4)), conv_bn(BNAct(4), nn.Conv2d(4, 4, 1))))
)
case(KIND, "BN subclass that branches on its input")(lambda: fusing(conv_bn(Branching(4))))
case(KIND, "BN subclass with no forward of its own")(lambda: fusing(conv_bn(Named(4))))
case(KIND, "SyncBatchNorm")(lambda: fusing(conv_bn(nn.SyncBatchNorm(4))))
case(KIND, "`fold_bn(conv, subclass)`")(lambda: same(lambda net: fold_bn(*net), conv_bn(BNReLU(4))))
case(KIND, "`bn_as_conv(subclass)`")(lambda: same(bn_as_conv, BNReLU(3)))
case(KIND, "`freeze(subclass, 'bn.statistics')`")(lambda: same(lambda net: freeze(net, "bn.statistics"), conv_bn(BNReLU(4))))
case(KIND, "`freeze(timm's, 'all')`")(lambda: same(lambda net: freeze(net, "all"), conv_bn(BNAct(4))))
case(KIND, "`F.batch_norm` in a forward")(lambda: fusing(Of(
    lambda s, x: F.batch_norm(s.conv(x), s.bn.running_mean, s.bn.running_var, s.bn.weight, s.bn.bias, eps=s.bn.eps))))  # fmt: skip
case(KIND, "`F.batch_norm` with the batch's statistics")(lambda: fusing(Of(
    lambda s, x: F.batch_norm(s.conv(x), None, None, s.bn.weight, s.bn.bias, training=True))))  # fmt: skip
case(KIND, "BN without running statistics")(lambda: fusing(conv_bn(nn.BatchNorm2d(4, track_running_stats=False))))
case(KIND, "conv subclass that standardises its weights")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), Standardised(3, 4, 3))))
case(KIND, "conv subclass that pads by control flow")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), Same(3, 4, 3, 2))))

# ---- parametrised layers

KIND = "a parametrised layer"


class Twice(nn.Module):
    def forward(self, weight):
        return 2 * weight


def spectral(layer):
    with torch.no_grad():
        return parametrizations.spectral_norm(layer)


def doubled(layer, name):
    return parametrize.register_parametrization(layer, name, Twice())


case(KIND, "spectral norm of a Conv2d")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), spectral(nn.Conv2d(3, 4, 3)))))
case(KIND, "spectral norm of a conv subclass")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), spectral(Standardised(3, 4, 3)))))
case(KIND, "weight norm of a conv subclass")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), parametrizations.weight_norm(Same(3, 4, 3, 2)))))
case(KIND, "`fold` of a conv subclass")(lambda: same(fold, nn.Sequential(doubled(Standardised(3, 4, 3), "weight"))))
case(KIND, "weight and bias of a conv")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), doubled(doubled(nn.Conv2d(3, 4, 3), "weight"), "bias"))))
case(KIND, "bias alone")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), doubled(nn.Conv2d(3, 4, 3), "bias"))))
case(KIND, "weight of a BN")(lambda: fusing(conv_bn(doubled(nn.BatchNorm2d(4), "weight"))))
case(KIND, "weight of a ConvTranspose2d")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), doubled(nn.ConvTranspose2d(3, 4, 3), "weight"))))

# ---- what is one and is traced apart

KIND = "one module, traced apart"


def listed(make) -> str:
    block = filled(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()), "shared")
    parts = make(block).eval()
    (new, changes), x = fused(parts), images()
    with torch.no_grad():
        gap = max(
            (new[key](x) - parts[key](x)).abs().max().item() for key in (parts if isinstance(parts, nn.ModuleDict) else range(len(parts)))
        )
    left = "; ".join(dict.fromkeys(changes.left.values()))
    return f"equal; BNs {norms(parts)} → {norms(new)}" + (f"; left: {left}" if left else "") if gap < 1e-10 else f"WRONG by {gap:.1e}"


def tied(block):
    other = copy.deepcopy(block)
    other[0].weight = block[0].weight
    return nn.ModuleList([nn.Sequential(block), nn.Sequential(other)])


def stages():
    block = ScalerBlock(3, 3)
    net = filled(nn.Sequential(nn.Sequential(block), nn.Sequential(block, nn.ReLU())), "stages")
    student, x = drop_branch(net), images()
    block.scaler = 0.0
    with torch.no_grad():
        gap = (student(x) - net(x)).abs().max().item()
    return "equal to scaler 0" if gap < 1e-12 else f"WRONG by {gap:.1e}"


case(KIND, "one block twice in a ModuleList")(lambda: listed(lambda block: nn.ModuleList([block, block])))
case(KIND, "one block in two blocks of a ModuleList")(
    lambda: listed(lambda block: nn.ModuleList([nn.Sequential(block), nn.Sequential(block)]))
)
case(KIND, "a block and one around it")(lambda: listed(lambda block: nn.ModuleDict({"a": nn.Sequential(block, nn.ReLU()), "b": block})))
case(KIND, "two blocks with one weight")(lambda: listed(tied))
case(KIND, "`drop_branch`, one block in two stages")(stages)

# ---- freeze

KIND = "`freeze`, whatever normalises"


def moved(layer, part, x=None) -> str:
    """What of `layer`, held still, a forward pass in train mode moves."""
    net = freeze(filled(nn.Sequential(layer, nn.Conv2d(4, 4, 1) if x is None else nn.Identity()), str(layer)).train(), part).train()
    before, x = copy.deepcopy(net.state_dict()), images(4) if x is None else x
    out, still = net(x), net.eval()(x)
    gone = [name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])]
    return (
        f"WRONG: {', '.join(gone)} moved"
        if gone
        else "nothing moves"
        if torch.equal(out, still)
        else "WRONG: train mode computes something else"
    )


for part in ("all", "bn.statistics", "0.*"):
    case(KIND, f"BatchNorm1d, {part!r}")(lambda part=part: moved(nn.BatchNorm1d(4), part, images(4)[..., 0]))
case(KIND, "BatchNorm3d")(lambda: moved(nn.BatchNorm3d(4), "bn.statistics", images(4, dims=3)))
case(KIND, "SyncBatchNorm")(lambda: moved(nn.SyncBatchNorm(4), "bn.statistics"))
case(KIND, "InstanceNorm2d with statistics")(lambda: moved(nn.InstanceNorm2d(4, track_running_stats=True), "all"))
case(KIND, "BN subclass with a forward of its own")(lambda: moved(BNReLU(4), "bn.statistics"))
case(KIND, "BN + activation (timm's)")(lambda: moved(BNAct(4), "0.running_*"))
case(KIND, "the vectors of spectral norm")(lambda: moved(spectral(nn.Conv2d(4, 4, 1)), "all"))
case(KIND, "no running statistics, 'bn.statistics'")(
    lambda: same(lambda net: freeze(net, "bn.statistics"), conv_bn(nn.BatchNorm2d(4, track_running_stats=False)))
)
case(KIND, "no running statistics, 'all'")(
    lambda: same(lambda net: freeze(net, "all"), conv_bn(nn.BatchNorm2d(4, track_running_stats=False)))
)

# ---- modes

KIND = "a mode that is only the root's"


def new_head():
    net = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)), "head").float().eval()
    net[3] = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    return net


def measured(measure) -> str:
    net = new_head()
    before, modes = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    measure(net)
    kept = all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    return "measured, nothing moved" if kept and modes == [m.training for m in net.modules()] else "WRONG: measuring changed it"


def evaluated() -> str:
    net, x = new_head(), images(count=4).float()
    return "in eval mode throughout" if torch.equal(in_eval(net)(x), copy.deepcopy(net).eval()(x)) else "WRONG"


case(KIND, "`fuse` after a new head")(lambda: fuse(new_head()) and "WRONG: not refused")
case(KIND, "`accuracy`, `logits` (what they run)")(evaluated)
case(KIND, "`macs`")(lambda: measured(lambda net: macs(net, (3, 12, 12))))
case(KIND, "`latency`")(lambda: measured(lambda net: latency(net, (3, 12, 12), seconds=0.01)))
case(KIND, "a module of one's own that reads its mode")(lambda: fuse(half_trained()) and "WRONG: not refused")


def half_trained():
    net = nn.Sequential(Of(Of.body), Of(lambda s, x: F.dropout(x, training=s.training))).eval()
    net[1].training = True
    return net


# ---- what Python decides

KIND = "what Python decides in a forward pass"
CALLS = {"n": 0}


def counted(self, x):
    self.calls += 1
    return self.body(x) * (1 + self.calls % 2)


def counted_in_a_dict(self, x):
    self.stats["calls"] = self.stats.get("calls", 0) + 1
    return self.body(x) * (1 + self.stats["calls"] % 2)


def counted_outside(self, x):
    CALLS["n"] += 1
    return self.body(x) * (1 + CALLS["n"] % 2)


def remembered(self, x):
    out = self.body(x) + self.last.mean()
    self.last = out.detach()
    return out


def in_autocast(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.body(x)


def without_gradient(self, x):
    with torch.no_grad():
        return self.body(x)


@torch.inference_mode()
def decorated(self, x):
    return self.body(x)


def written_into(self, x):
    self.count += 1
    return self.body(x) * self.count


def with_buffer():
    net = Of(written_into)
    net.register_buffer("count", torch.zeros(()))
    return net


class Small(nn.Module):
    """A layer without children that counts."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (1 + self.calls % 2)


class Headed(nn.Module):
    """Its first layer in the order of names takes no image, and what its last one does depends on the type of its input."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(4, 4), conv_bn(nn.BatchNorm2d(4))

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3))) * (2 if type(x) is torch.Tensor else 1)


def hooked_everywhere() -> str:
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, out: out * 2)
    try:
        return fusing(Of(Of.body))
    finally:
        handle.remove()


def convs_patched() -> str:
    right = nn.Conv2d._conv_forward
    nn.Conv2d._conv_forward = lambda self, x, weight, bias: right(self, x, 2 * weight, bias)
    try:
        return fusing(Of(Of.body))
    finally:
        nn.Conv2d._conv_forward = right


def patched(name, function):
    net = Of(Of.body)
    setattr(net.conv, name, MethodType(function, net.conv))
    return net


case(KIND, "`isinstance(x, Tensor)`")(lambda: fusing(Of(lambda s, x: s.body(x) * (2 if isinstance(x, torch.Tensor) else 1))))
case(KIND, "`isinstance` of what a layer made")(lambda: fusing(Of(lambda s, x: s.bn(y if isinstance(y := s.conv(x), torch.Tensor) else x))))
case(KIND, "`isinstance(weight, Parameter)`")(
    lambda: fusing(Of(lambda s, x: s.body(x) * (2 if isinstance(s.conv.weight, nn.Parameter) else 1)))
)
case(KIND, "`isinstance` of a size")(lambda: fusing(Of(lambda s, x: s.body(x) * (2 if isinstance(x.shape[-1], torch.Tensor) else 1))))
case(KIND, "`torch.is_tensor(x)`")(lambda: fusing(Of(lambda s, x: s.body(x) * (2 if torch.is_tensor(x) else 1))))
case(KIND, "`type(x) is Tensor`")(lambda: fusing(Of(lambda s, x: s.body(x) * (2 if type(x) is torch.Tensor else 1))))
case(KIND, "a counter")(lambda: fusing(Of(counted, calls=0)))
case(KIND, "a counter in a dict")(lambda: fusing(Of(counted_in_a_dict, stats={})))
case(KIND, "a counter outside of the network")(lambda: fusing(Of(counted_outside), again=lambda: CALLS.update(n=0)))
case(KIND, "a counter in a layer without children")(lambda: fusing(nn.Sequential(Of(Of.body), Small())))
case(KIND, "a counter in a buffer, added in place")(lambda: fusing(with_buffer()))
case(KIND, "the last output, added to the next")(lambda: fusing(Of(remembered, last=torch.zeros(1, dtype=torch.float64))))
case(KIND, "autocast")(lambda: fusing(Of(in_autocast)))
case(KIND, "`with torch.no_grad()`")(lambda: fusing(Of(without_gradient)))
case(KIND, "`@torch.inference_mode()`")(lambda: fusing(Of(decorated)))
case(KIND, "a hook on all modules of the process")(hooked_everywhere)
case(KIND, "a `_conv_forward` of all convs in the process")(convs_patched)
case(KIND, "a conv with a `_conv_forward` of its own")(
    lambda: fusing(patched("_conv_forward", lambda self, x, weight, bias: F.conv2d(x, 2 * weight, bias, padding=1)))
)
case(KIND, "a conv with a `forward` of its own")(lambda: fusing(patched("forward", lambda self, x: F.conv2d(x, self.weight, padding=1))))
case(KIND, "a head that is made before the first conv")(lambda: fusing(Headed()))
case(KIND, "random numbers of Python")(lambda: fusing(Of(lambda s, x: s.body(x) * random.random())))
case(KIND, "random numbers of torch")(lambda: fusing(Of(lambda s, x: s.body(x) * torch.rand(())), again=lambda: torch.manual_seed(0)))
case(KIND, "a branch on the size of the batch")(lambda: fusing(Of(lambda s, x: s.body(x) * (2 if x.shape[0] > 1 else 1))))
case(KIND, "a branch on the type of the example")(lambda: fusing(Of(lambda s, x: s.body(x) * (1 if x.dtype == torch.float32 else 2))))

# ---- copies

KIND = "a copy that would share"


class Closing(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        if how == "lambda":
            self.f = lambda x: self.conv(x)
        elif how == "list":
            self.f = [lambda x: self.conv(x)]
        elif how == "default":
            self.f = lambda x, conv=self.conv: conv(x)
        elif how == "nested":
            inner = lambda x: self.conv(x)  # noqa: E731
            self.f = lambda x: inner(x)
        elif how == "closed-over method":
            forward = self.conv.forward
            self.f = lambda x: forward(x)
        elif how == "weight":
            weight = self.conv.weight
            self.f = lambda x: F.conv2d(x, weight)
        elif how == "partial of a lambda":
            self.f = functools.partial(lambda x, scale: self.conv(x), scale=1)
        elif how == "method":
            self.f = self.conv.forward
        elif how == "partial":
            self.f = functools.partial(nn.Module.__call__, self.conv)
        elif how == "hook":
            self.f = self.conv
            self.bn.register_forward_hook(lambda module, inputs, out: out + self.conv.weight.mean())

    def forward(self, x):
        return self.bn((self.f[0] if isinstance(self.f, list) else self.f)(x))


def independent(how) -> str:
    """Whether a frozen copy computes with its own conv."""
    net = filled(Closing(how), how)
    new, x = freeze(net, "bn.statistics"), images()
    expected = net(x)
    nn.init.zeros_(net.conv.weight)
    return "equal, and its own" if torch.equal(new(x), expected) else "WRONG: it calls the original"


for how in ("lambda", "list", "default", "nested", "closed-over method", "weight", "partial of a lambda", "method", "partial", "hook"):
    case(KIND, f"a function that holds the network: {how}")(lambda how=how: independent(how))


def keeps(self, x):
    self.feat = self.conv(x)
    return self.bn(self.feat)


def keeping(move) -> str:
    net = filled(Of(keeps), "keeps")
    net(images())
    new = move(net)
    with torch.no_grad():
        return "equal" if (new(images()) - net(images())).abs().max() < 1e-10 else "WRONG"


for name, move in {"fuse": fuse, "freeze": lambda net: freeze(net, "conv.*"), "attach": lambda net: attach(net, at="conv")}.items():
    case(KIND, f"a tensor kept from a pass, `{name}`")(lambda move=move: keeping(move))

# ---- numbers that do not fit

KIND = "float16"


def half(weight) -> str:
    net = filled(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), "half")
    nn.init.constant_(net[0].weight, 100.0)
    nn.init.constant_(net[1].weight, weight)
    new, changes = fused(net.half())
    finite = all(p.isfinite().all() for p in new.parameters())
    return ("finite; " if finite else "WRONG: inf; ") + ("; ".join(changes.left.values()) or f"BNs 1 → {norms(new)}")


case(KIND, "a kernel that fits")(lambda: half(1.0))
case(KIND, "a kernel beyond 65504")(lambda: half(60000.0))

# ---- our own moves on somebody else's classes

KIND = "a class where the type is meant"


class Bent(ScalerBlock):
    def front(self, x):
        return super().front(x) + 1


def bent():
    return shut(Bent(3, 4))


case(KIND, "`drop_branch`, a block with a front of its own")(lambda: same(drop_branch, bent()))
case(KIND, "`drop_branch`, a block with a hook")(lambda: same(drop_branch, hooked(shut(ScalerBlock(3, 4)))))
case(KIND, "`attach` behind a BN with a forward of its own")(
    lambda: same(lambda net: fold(attach(net, at="0", join="after-bn")), conv_bn(BNReLU(4)))
)
case(KIND, "`loosen`, a ReLU with a hook")(lambda: same(lambda net: loosen(net, "*"), nn.Sequential(nn.ReLU(), hooked(nn.ReLU()))))

# ---- around a network

case("`freeze`, whatever normalises", "TorchScript")(lambda: str(freeze(scripted(conv_bn(nn.BatchNorm2d(4))), "bn.statistics")) + " WRONG")
case("`freeze`, whatever normalises", "lazy")(lambda: str(freeze(nn.Sequential(nn.LazyBatchNorm2d()), "all")) + " WRONG")
case("`freeze`, whatever normalises", "a norm of one's own")(lambda: moved(Written(4), "bn.statistics"))
case("where a BN stands", "in a class of one's own")(lambda: fusing(conv_bn(Written(4))))
case("where a BN stands", "called by keyword")(lambda: fusing(Of(lambda s, x: s.bn(input=s.conv(input=x)))))

KIND = "around a network, or without weights"


def compiled():
    net = conv_bn(nn.BatchNorm2d(4)).eval()
    net.compile()
    return net


def pruned(layer):
    prune.random_unstructured(layer, "weight", 0.5)
    return layer


def old_weight_norm(layer):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return weight_norm(layer)


def scripted(module):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)


AROUND = {
    "a pruning mask": lambda: conv_bn(nn.BatchNorm2d(4), pruned(nn.Conv2d(3, 4, 3))),
    "weight norm by a hook": lambda: conv_bn(nn.BatchNorm2d(4), old_weight_norm(nn.Conv2d(3, 4, 3))),
    "spectral norm by a hook": lambda: conv_bn(nn.BatchNorm2d(4), nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))),
    "TorchScript": lambda: scripted(conv_bn(nn.BatchNorm2d(4)).eval()),
    "TorchScript inside": lambda: nn.Sequential(scripted(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)),
    "lazy": lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.BatchNorm2d(4)),
    "the meta device": lambda: conv_bn(nn.BatchNorm2d(4)).to("meta"),
    "DataParallel": lambda: nn.DataParallel(conv_bn(nn.BatchNorm2d(4))),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(conv_bn(nn.BatchNorm2d(4))),
    "compiled in place": compiled,
    "torch.compile": lambda: torch.compile(conv_bn(nn.BatchNorm2d(4))),
}
for name, make in AROUND.items():
    case(KIND, name)(lambda make=make: fuse(make().eval()) and "WRONG: not refused")

# ---- fuse_report, whatever comes out

KIND = "`fuse_report`, whatever comes out"
Pair = namedtuple("Pair", "one other")


def reported(f, shape=(3, 8, 8), dtype=torch.float32) -> str:
    net = filled(Of(f), "reported").to(dtype)
    report = fuse_report(net, shape, seconds=0.005).report
    exact = report.proof.difference <= (1e-10 if report.proof.dtype == torch.float64 else 1e-3) * max(report.proof.largest, 1e-30)
    return f"equal, {report.proof.passes} passes in {str(report.proof.dtype)[6:]}" if exact else "WRONG"


OUTPUTS = {
    "None": lambda s, x: (s.body(x), None),
    "a dict with None": lambda s, x: {"out": s.body(x), "aux": None},
    "an OrderedDict": lambda s, x: OrderedDict(out=s.body(x), input=x),
    "a tuple with a name": lambda s, x: Pair(s.body(x), [x, {"x": x}]),
    "a mask": lambda s, x: s.body(x) > 0,
    "a size": lambda s, x: (s.body(x), x.shape[-1]),
    "a text": lambda s, x: (s.body(x), "a"),
    "a number": lambda s, x: (s.body(x), 1.0),
    "nothing": lambda s, x: (s.body(x), x[:, :0]),
    "`x.float()` inside": lambda s, x: s.body(x.float() / 255),
    "nan and inf": lambda s, x: s.body(x) / x.sum(1, keepdim=True).relu(),
}
for name, f in OUTPUTS.items():
    case(KIND, name)(lambda f=f: reported(f))
case(KIND, "an example with other channels")(lambda: reported(Of.body, (4, 8, 8)))
case(KIND, "an example that is too small")(lambda: reported(lambda s, x: F.avg_pool2d(s.body(x), 16), (3, 8, 8)))

# ---- a network that is one module

KIND = "a network that is one module"
case(KIND, "`drop_branch(ScalerBlock)`")(lambda: same(drop_branch, shut(ScalerBlock(3, 4))))
case(KIND, "`fold(attach(conv))`")(lambda: same(lambda net: fold(attach(net, at="*")), nn.Conv2d(3, 4, 3)))
case(KIND, "`loosen(ReLU)`")(lambda: same(lambda net: loosen(net, "*"), nn.ReLU()))
case(KIND, "`linearise(LambdaReLU)`")(lambda: "equal" if torch.equal(linearise(LambdaReLU(1.0))(images()), images()) else "WRONG")
case(KIND, "`freeze(BN)`")(lambda: same(lambda net: freeze(net, ["bn.statistics", "bn.affine"]), nn.BatchNorm2d(3)))
case(KIND, "`fuse(spectral norm)`")(lambda: fusing(spectral(nn.Conv2d(3, 4, 3))))
case(KIND, "`fuse(conv)`")(lambda: fusing(nn.Conv2d(3, 4, 3)))


def shut(block):
    block.scaler = 0.0
    return block


# ---- BNs before and behind all sorts of layers

KIND = "where a BN stands"


def lines(channels=3, dims=1):
    return images(channels, 8, dims=dims), images(channels, 9, 3, dims=dims)


case(KIND, "behind a Conv1d")(lambda: fusing(conv_bn(nn.BatchNorm1d(4), nn.Conv1d(3, 4, 3, padding="same")), *lines()))
case(KIND, "behind a Conv3d")(lambda: fusing(conv_bn(nn.BatchNorm3d(4), nn.Conv3d(3, 4, 3, dilation=2)), *lines(dims=3)))
case(KIND, "behind a ConvTranspose2d")(lambda: fusing(conv_bn(nn.BatchNorm2d(4), nn.ConvTranspose2d(3, 4, 3, 2))))
case(KIND, "behind a dilated conv that reflects")(
    lambda: fusing(conv_bn(nn.BatchNorm2d(4), nn.Conv2d(3, 4, 3, padding=2, dilation=2, padding_mode="reflect")))
)
case(KIND, "before its conv (pre-activation)")(lambda: fusing(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3))))
case(KIND, "behind a conv that others read")(lambda: fusing(Of(lambda s, x: s.bn(y := s.conv(x)) + y)))
case(KIND, "behind a conv that is called twice")(lambda: fusing(Of(lambda s, x: s.bn(s.conv(x)) + s.conv(x))))
case(KIND, "in a head that no pass calls")(lambda: fusing(Of(Of.body, head=conv_bn(nn.BatchNorm2d(4)))))
case(KIND, "in a block with a forward hook")(lambda: fusing(nn.Sequential(hooked(conv_bn(nn.BatchNorm2d(4))), nn.ReLU())))


def hooked(block):
    block.register_forward_hook(lambda module, inputs, out: out * 2)
    return block


HEAD = """# At the edges

What `fuse` and the moves do with {networks} networks of {kinds} kinds that are easily taken for others: the same function, or a
refusal that says why. Every row is a test (`tests/edges.py`), whose oracle is the network as it was written, in float64;
`python tests/edges.py` writes this page.

| kind | network | what comes of it |
|:--|:--|:--|
"""


def page() -> str:
    """docs/edges.md as it is today."""
    kinds = dict.fromkeys(kind for kind, _ in CASES)
    ordered = [(kind, what) for kind in kinds for where, what in CASES if where == kind]
    rows = [f"| {kind} | {what} | {answer(kind, what).replace('|', '/')} |\n" for kind, what in ordered]
    return HEAD.format(networks=len(rows), kinds=len(kinds)) + "".join(rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    PAGE.write_text(page(), encoding="utf-8")
