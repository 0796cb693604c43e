"""The panel of page 00, for the shipped networks or the reader's own."""

from torch import nn

from reducenet.course import nets
from reducenet.course.live.shown import Live
from reducenet.course.panels.shrink import picture
from reducenet.course.panels.shrink.material import material
from reducenet.data.tensors import Data, load


def live(data: Data, teacher: nn.Module, student: nn.Module) -> Live:
    """`student` is what the second training made of `teacher` without its branches."""
    given = material(teacher, student, data)
    return Live("shrink", "Ten seconds", given, *picture.drawn(given), height=1000)


def shipped() -> Live:
    return live(load("fashion-mini"), nets.shipped("teacher-e4"), nets.shipped("student-fc"))
