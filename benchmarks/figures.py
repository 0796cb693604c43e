"""Which figures there are, in the order of the table. A figure is a function `measure(size) -> rows`, called by its name with `--only`."""

from collections.abc import Callable
from typing import NamedTuple

from benchmarks import convs, deployed, gpu, replicates, start, study, teaching, training
from benchmarks.harness import Row, Size


class Figure(NamedTuple):
    measure: Callable[[Size], list[Row]]
    when: str = "always"  # "always" | "asked": it takes minutes | "gpu"

    @property
    def name(self) -> str:
        return self.measure.__name__.replace("_", "-")


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(training.student),
        Figure(training.teacher),
        Figure(replicates.replicates),
        Figure(convs.convs),
        Figure(teaching.kd),
        Figure(teaching.side),
        Figure(study.study, "asked"),
        Figure(start.first, "asked"),
        Figure(deployed.onnx),
        Figure(start.imports),
        Figure(start.memory),
        Figure(gpu.cifar),
        Figure(gpu.gpu_training, "gpu"),
        Figure(gpu.gpu_groups, "gpu"),
        Figure(gpu.gpu_compiled, "gpu"),
    )
}
