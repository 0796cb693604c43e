"""What a student learns from: labels, a teacher's soft labels, a teacher's maps.

A loss for `fit` is a function `loss(net, x, y) -> (loss, logits)`; the words here make one, `kd(teacher)` for one. A teacher is a network,
in a study file the name of its arm; it is copied, set to eval and never gets a gradient.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reducenet.learn.answers import Answers
from reducenet.moves.surgery import copied
from reducenet.nets.blocks import is_block
from reducenet.nets.networks import Network
from reducenet.words import Above0, Annotated, Arm, Field, Literal, Share, loss


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`CE(net(x), y)`, mean over the batch."""
    logits = net(x)
    return F.cross_entropy(logits, y), logits


@loss("ce", asks="logits")
def ce():
    """The loss `CE(z, y)`: labels alone."""
    return cross_entropy


@loss("smoothed", asks="logits")
def smoothed(smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1):
    """The loss `(1 - s) CE(z, y) + s CE(z, uniform)`, s = smoothing in [0, 1): soft labels that need no teacher, the control for those
    that do. Source: Szegedy et al. 2016, section 7."""

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(x)
        return F.cross_entropy(logits, y, label_smoothing=smoothing), logits

    return objective


def kd_term(student: Tensor, teacher: Tensor, temperature: float, reduction: str = "batchmean") -> Tensor:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, summed over classes, mean over the batch ("batchmean").

    Zero, with zero gradient, where the logits [N, classes] agree. "elementwise-mean" is torch's default and the article's code: the
    same divided by the number of classes, so that one weight means something else on every data set.
    Source: Hinton, Vinyals, Dean 2015.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"the student's logits are {list(student.shape)}, the teacher's {list(teacher.shape)}; classes must agree")
    p = F.log_softmax(teacher / temperature, dim=1)
    q = F.log_softmax(student / temperature, dim=1)
    term = F.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2
    return term / student.shape[1] if reduction == "elementwise-mean" else term


@loss("kd", asks="logits")
def kd(teacher: Arm, kd_weight: Share = 0.9, temperature: Above0 = 4.0, reduction: Literal["batchmean", "elementwise-mean"] = "batchmean"):
    """The loss `(1 - w) CE(z, y) + w T^2 KL(teacher || student)`, w = kd_weight in [0, 1], temperature > 0.

    `reduction` of the KL is "batchmean" or "elementwise-mean"; see `kd_term`.
    """
    teacher = _fixed(teacher)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(x)
        with torch.no_grad():
            target = teacher.to(x.device)(x)
        hard, soft = F.cross_entropy(logits, y), kd_term(logits, target, temperature, reduction)
        return (1 - kd_weight) * hard + kd_weight * soft, logits

    return objective


class Seen:
    """One forward pass up to the classifier: the maps behind every part of the trunk, and the features they end in."""

    def __init__(self, net: nn.Module, x: Tensor):
        self.maps: list[Tensor] = net.stage_maps(x)
        self.features: Tensor = net.pooled(self.maps[-1])


def _with_maps(teacher: nn.Module) -> nn.Module:
    teacher = teacher.net if isinstance(teacher, Answers) else teacher
    if not isinstance(teacher, Network):
        raise ValueError(f"a teacher of maps or features is a network of this package, a Network, not a {type(teacher).__name__}")
    return _fixed(teacher)


def _beside_labels(teacher: nn.Module, feature_weight: float, distance: Callable[[Seen, Seen], Tensor]):
    """The loss `CE(z, y) + w distance(student, teacher)`."""
    teacher = _with_maps(teacher)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        student = Seen(net, x)
        logits = net.classifier(student.features)
        with torch.no_grad():
            target = Seen(teacher.to(x.device), x)
        return F.cross_entropy(logits, y) + feature_weight * distance(student, target), logits

    return objective


@loss("features", asks="features")
def features(teacher: Arm, feature_weight: Above0 = 1.0):
    """The loss `CE(z, y) + w MSE(features(student), features(teacher))` on the pooled features that the classifier reads.

    At zero distance, a student with the teacher's classifier gives the teacher's logits exactly.
    Source: the article, "ReduceNet's training", last paragraph; FitNets; SimKD.
    """
    fixed = _with_maps(teacher)

    def pooled(x: Tensor) -> Tensor:
        return Seen(fixed.to(x.device), x).features

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        student = Seen(net, x).features
        logits = net.classifier(student)
        with torch.no_grad():
            target = teacher.ask("features", x, pooled) if isinstance(teacher, Answers) else pooled(x)
        return F.cross_entropy(logits, y) + feature_weight * _mse(student, target), logits

    return objective


@loss("hints")
def hints(teacher: Arm, feature_weight: Above0 = 1.0):
    """The loss `CE(z, y) + w sum_i MSE(student map i, teacher map i)`, over the maps behind every part of the trunk.

    Student and teacher have maps of one shape by design, so no regressor stands between them (it is the identity); other shapes raise
    `ValueError`. Labels and hints are learned together, not one after the other as in the paper.
    Source: Romero et al. 2015, FitNets. Weights of 100 in other code go with one map, not all; here they drown the labels.
    """
    return _beside_labels(teacher, feature_weight, lambda student, target: sum(map(_mse, *_paired(student.maps, target.maps))))


@loss("attention")
def attention(teacher: Arm, feature_weight: Above0 = 1000.0):
    """The loss `CE(z, y) + w sum_i MSE(a(student map i), a(teacher map i))`, a = attention_map, over every part of the trunk.

    Only height and width have to agree. Source: Zagoruyko and Komodakis 2017, with their weight.
    """

    def distance(student: Seen, target: Seen) -> Tensor:
        return sum(_mse(attention_map(a), attention_map(b)) for a, b in zip(*_paired(student.maps, target.maps), strict=True))

    return _beside_labels(teacher, feature_weight, distance)


def attention_map(maps: Tensor) -> Tensor:
    """The mean over channels of the squared maps [N, C, H, W], scaled to norm 1 for every image: [N, H, W]."""
    return F.normalize(maps.pow(2).mean(1), dim=(1, 2))


@loss("match")
def match(teacher: Arm):
    """The loss `MSE(student, teacher)` of the maps that are about to be pooled, behind the neck; no labels.

    At zero, a student with the teacher's classifier gives the teacher's logits bitwise. The classifier gets no gradient: freeze it as
    the teacher's. `project` puts the paper's projector into the neck; without, the student's own maps have to match.
    Source: Chen et al. 2022, SimKD.
    """
    teacher = _with_maps(teacher)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        maps = net.neck(net.stage_maps(x)[-1])
        with torch.no_grad():
            guide = teacher.to(x.device)
            target = guide.neck(guide.stage_maps(x)[-1])
            logits = net.classifier(maps.mean((2, 3)))
        return _mse(maps, target), logits

    return objective


@loss("block-wise")
def block_wise(teacher: Arm):
    """The loss `sum_i MSE(student_i(t), teacher_i(t)) / var(teacher_i(t))`, t the teacher's map before block i; no labels.

    Every block learns alone: its gradient depends on itself and the teacher only. The stem counts as a block, and a block that gives
    the teacher's mean costs 1. The logits are what the classifier makes of the last block's output. BNs are left with the statistics of
    the teacher's maps: `recalibrate` afterwards. `ValueError` unless both have equally many blocks with outputs of one shape.
    Source: Li et al. 2020, DNA, without its search; all blocks are trained at once.
    """
    teacher = _with_maps(teacher)

    def objective(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        total = 0.0
        for block, guide in zip(*_paired(_blocks(net), _blocks(teacher.to(x.device)), "blocks"), strict=True):
            out = block(x)
            with torch.no_grad():
                x = guide(x)
            total = total + _mse(out, x) / x.var(correction=0)
        with torch.no_grad():
            logits = net.classifier(net.pooled(out))
        return total, logits

    return objective


def _blocks(net: nn.Module) -> list[nn.Module]:
    """The parts of the trunk in order, a stage of blocks block by block."""
    blocks = []
    for part in map(net.get_submodule, net.trunk):
        inside = list(part.children())
        blocks += inside if inside and all(map(is_block, inside)) else [part]
    return blocks


def _mse(student: Tensor, teacher: Tensor) -> Tensor:
    if student.shape != teacher.shape:
        raise ValueError(f"the student's map is {list(student.shape)}, the teacher's {list(teacher.shape)}; shapes must agree")
    return F.mse_loss(student, teacher)


def _paired(student: list, teacher: list, kind: str = "maps") -> tuple[list, list]:
    if len(student) != len(teacher):
        raise ValueError(f"the student has {len(student)} {kind}, the teacher {len(teacher)}; they must be as many")
    return student, teacher


def _fixed(teacher: nn.Module) -> nn.Module:
    return copied(teacher).eval().requires_grad_(False)
