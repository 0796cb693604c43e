"""What the panel is handed: one network at five steps of its way, each as a program, with what it costs and how often it is right."""

from torch import nn

from reducenet.course.live.images import handed, held_out, limits, picked
from reducenet.course.live.program import program
from reducenet.data.tensors import Data
from reducenet.deploy.fuse import fuse
from reducenet.learn import evaluate, measure
from reducenet.learn.batchnorm import recalibrate
from reducenet.moves.branch import drop_branch

STEPS = {
    "whole": ("The teacher", "Trained with a wide branch beside a narrow one in every block."),
    "dropped": ("Drop the branch", "The wide branch is deleted. Nothing is trained, nothing converted."),
    "measured": ("Measure BN again", "The BatchNorms see a few thousand images. Still no weight has moved."),
    "trained": ("Train what is left", "A second, short training; the classifier stays the teacher's."),
    "fused": ("Fuse", "Every BatchNorm is folded into its convolution. Not one answer changes."),
}


def steps(teacher: nn.Module, student: nn.Module, data: Data) -> dict[str, nn.Module]:
    """The network at each step; `student` is what the second training made of what `teacher` left."""
    dropped = drop_branch(teacher)
    anew = recalibrate(dropped, data, images=min(4000, len(data.train.labels)))
    return dict(zip(STEPS, (teacher, dropped, anew, student, fuse(student)), strict=True))


def material(teacher: nn.Module, student: nn.Module, data: Data) -> dict:
    """As JSON."""
    nets, held = steps(teacher, student, data), held_out(data)
    some = picked(held, len(data.classes))
    shape = tuple(data.val.images.shape[1:])
    told = []
    for (name, net), (title, text) in zip(nets.items(), STEPS.values(), strict=True):
        right = int(evaluate.correct(net, data, held).sum())
        layers = sum(isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear) for module in net.modules())
        costs = {"parameters": measure.parameters(net), "macs": measure.macs(net, shape), "layers": layers, "right": right}
        told.append({"name": name, "title": title, "text": text, "program": program(net, shape)} | costs)
    return {
        "steps": told,
        **handed(data, held, some),
        "start": telling(nets, some, data),
        "limits": limits(evaluate.logits(net, data, some) for net in nets.values()),
    }


def telling(nets: dict[str, nn.Module], some, data: Data) -> int:
    """The image with the most to see: right in the end and at the start, wrong where the branch is gone; among them the surest."""
    right = {name: evaluate.correct(nets[name], data, some) for name in STEPS}
    story = right["whole"] & ~right["dropped"] & right["trained"]
    best = evaluate.logits(nets["whole"], data, some).topk(2).values
    return int((story.float() * 1e3 + best[:, 0] - best[:, 1]).argmax())
