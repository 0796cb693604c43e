"""`page = open_page(...)`: what every page needs and no reader wants to see. One cell."""

import time
from functools import cache, cached_property
from importlib import import_module

import torch
from IPython.display import HTML
from torch import nn

from reducenet.course import nets
from reducenet.course.evidence import Evidence
from reducenet.course.parameters import check, injected
from reducenet.data.tensors import Data, load
from reducenet.learn.device import device_for
from reducenet.play.play import Played
from reducenet.style import theme

SHIPPED = {"seed": 0, "width": 8, "epochs": 3, "dataset": "fashion-mini", "profile": "quick", "retrain": False, "scaler": 1.0}


def open_page(study: str, **given) -> "Page":
    """Checks the page's parameters, papermill's included, and sets the stage: threads, theme, clock. `study` holds the page's evidence.

    Raises `ParameterError`, one line, for what is unknown, of another type or out of range.
    """
    check(given, injected())
    torch.set_num_threads(1)  # networks this small gain nothing from more
    theme()
    return Page(study, given)


class Page:
    """What a page works with: `data`, its `shape` and `classes`; `size` for `build`, `training` for `fit`; `evidence`."""

    def __init__(self, study: str, given: dict):
        self.given, self.evidence, self.started = given, Evidence(study), time.monotonic()
        self.seed, self.dataset = given.get("seed", 0), given.get("dataset", SHIPPED["dataset"])
        self.smoke = given.get("profile") == "smoke"
        epochs = given.get("epochs", SHIPPED["epochs"])
        self.epochs = 1 if self.smoke else 3 * epochs if given.get("profile") == "full" else epochs
        self.device = device_for().type

    @property
    def as_shipped(self) -> bool:
        """Whether the shipped networks are the ones that these parameters ask for."""
        return all(self.given.get(name, value) == value for name, value in SHIPPED.items())

    @property
    def as_recorded(self) -> bool:
        """Whether a run of this page is one more run of the recorded study."""
        study = self.evidence.study
        own = {"width": study.build.get("width"), "epochs": study.fit.get("epochs"), "dataset": study.data, "profile": "quick"}
        return all(self.given.get(name, value) == value for name, value in own.items() if value is not None)

    @cached_property
    def data(self) -> Data:
        data = load(self.dataset)
        return data.subset(512) if self.smoke else data

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.data.train.images.shape[1:])

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    @property
    def size(self) -> dict:
        """For `build`: as in the study, but for what the page's parameters say."""
        fits = {"num_classes": self.classes, "in_channels": self.shape[0]}
        return {**self.evidence.study.build, **self._build, **fits, "seed": self.seed}

    @property
    def training(self) -> dict:
        """For `fit`: as in the study, but for what the page's parameters say."""
        shown = self.given.get("profile") == "full"  # a bar for what takes minutes
        return {**self.evidence.study.fit, "epochs": self.epochs, "seed": self.seed, "device": self.device, "progress": shown}

    @property
    def _build(self) -> dict:
        return {"width": self.given["width"]} if "width" in self.given else {}

    def network(self, name: str, **build) -> nn.Module:
        """A shipped network, in eval mode; where a parameter asks for another, its arm is trained here, `build` saying how it differs."""
        return self.trained(name, **build).net if not self.as_shipped else nets.shipped(name)

    def trained(self, name: str, **build) -> Played:
        """The arm behind a shipped network, trained here with the page's parameters; `rows` has one for each epoch of its last fit."""
        study, arm = nets.ARMS[name]
        return self._trained(study, arm, tuple(sorted(build.items())))

    @cache  # noqa: B019 - a page lives as long as its kernel
    def _trained(self, study: str, arm: str, build: tuple) -> Played:
        given = {"seed": self.seed, "epochs": self.epochs, "build": {**self._build, **dict(build)}, "device": self.device}
        given["progress"] = self.training["progress"]
        return nets.trained(Evidence(study).study, arm, self.data, **given)

    def panel(self, name: str, **given):
        """The live panel of this name (a folder of course/panels), on these networks: it runs in the browser, without a kernel."""
        return import_module(f"reducenet.course.panels.{name}.panel").live(self.data, **given)

    def close(self) -> HTML:
        """The last line of every page."""
        took = time.monotonic() - self.started
        return HTML(f"<p>This page took {took:.0f} s here, on the {self.device}, one thread.</p>")

    def __repr__(self) -> str:
        images, epochs = f"{len(self.data.train.labels):,} training images", "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"{images} of {self.dataset} · {epochs} a training · {self.device}"
