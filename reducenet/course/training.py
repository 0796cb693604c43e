"""Training live, where a kernel is: a curve that grows while the network learns, and a button that stops it. Nothing waits for it."""

import copy
import threading

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import nn

from reducenet.course.figures import png
from reducenet.course.live.images import held_out
from reducenet.data.tensors import Data
from reducenet.learn.evaluate import accuracy
from reducenet.learn.train import fit
from reducenet.style import GREEN, drawing

EVERY = 10  # points a training's curve has, at most


class Stopped(Exception):
    """The reader has seen enough."""


class Training(widgets.VBox):
    """`Training(net, data, lr=0.4)`: press Train, and `fit(net, data, ...)` runs beside the page; `net` afterwards is what it has become.

    `options` are those of `fit`. A stopped training leaves the network as it was at that moment; the one handed in stays as it is.
    """

    def __init__(self, net: nn.Module, data: Data, epochs: int = 5, lr: float = 0.4, **options):
        self.start, self.data, self.options = net, data, {"device": "cpu", **options, "progress": False}
        self.net, self.points, self.thread, self._stop = net, [], None, threading.Event()
        self.held = held_out(data)
        wide = {"description_width": "8em"}  # fields, not sliders: these have a name that is read aloud
        self.epochs = widgets.BoundedIntText(value=epochs, min=1, max=60, description="epochs", style=wide)
        self.lr = widgets.BoundedFloatText(value=lr, min=1e-4, max=3.0, step=0.01, description="learning rate", style=wide)
        self.button = widgets.Button(description="Train", button_style="primary", layout={"height": "44px"})
        self.halt = widgets.Button(description="Stop", disabled=True, layout={"height": "44px"})
        self.curve, self.said = widgets.Image(format="png", layout={"max_width": "480px"}), widgets.HTML()
        self.button.on_click(lambda _: self.train())
        self.halt.on_click(lambda _: self.stop())
        super().__init__([self.epochs, self.lr, widgets.HBox([self.button, self.halt]), self.said, self.curve])
        self.add_class("training")
        self._say("not trained here yet")
        self._draw()

    def _repr_mimebundle_(self, **given):
        return super()._repr_mimebundle_(**given) | {
            "text/plain": "Training live needs a kernel: open this page in JupyterLab, and run it."
        }

    def train(self) -> None:
        """Start; a second press while it runs does nothing."""
        if self.thread and self.thread.is_alive():
            return
        self._stop.clear()
        self.points, self.net = [], self.start
        self.button.disabled, self.halt.disabled = True, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """After the step that is being taken."""
        self._stop.set()

    def _run(self) -> None:
        try:
            how = {"epochs": self.epochs.value, "lr": self.lr.value, "hooks": [*self.options.get("hooks", []), self._look]}
            self.net = fit(self.start, self.data, **self.options | how).net
            self._point(1.0, self.net)
            self._say(f"done: {self._share()}")
        except Stopped:
            self._say(f"stopped: {self._share()}")
        except Exception as error:  # whatever it is, the reader hears of it: nobody else does
            self._say(f"it ended with {type(error).__name__}: {next(iter(str(error).splitlines()), '')}")
        finally:
            self.button.disabled, self.halt.disabled = False, True

    def _look(self, net: nn.Module, progress: float) -> None:
        """Before every step: stop where that is asked for, and now and then a point of the curve."""
        if self._stop.is_set():
            self.net = copy.deepcopy(net).cpu().eval()
            self._point(progress, self.net)
            raise Stopped
        if progress * EVERY >= len(self.points):
            self._point(progress, net)
            self._say(f"{100 * progress:.0f} % of the training, {self._share()}")

    def _point(self, progress: float, net: nn.Module) -> None:
        self.points.append((progress * self.epochs.value, 100 * accuracy(net, self.data, self.held)))
        self._draw()

    def _share(self) -> str:
        return f"{self.points[-1][1]:.1f} % of {len(self.held.labels)} held-out images right"

    def _say(self, text: str) -> None:
        self.said.value = f'<div role="status" aria-live="polite">{text}</div>'

    def _draw(self) -> None:
        with drawing():
            figure = Figure(figsize=(4.6, 2.6))
            axes = figure.subplots()
            axes.plot(*zip(*self.points, strict=True), color=GREEN, marker="o") if self.points else None
            axes.set(xlabel="epochs", ylabel="held-out accuracy (%)", xlim=(0, self.epochs.value), ylim=(0, 100))
            self.curve.value = png(figure)
