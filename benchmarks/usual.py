"""The usual recipe: PIL images transformed one by one in a DataLoader, an eager loop, contiguous layout. What you would write first.

It trains the same network on the same images, with the same kind of views, SGD and schedule, as torchvision's references do.
"""

import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.crew import Crew
from benchmarks.harness import Turn
from reducenet import build, load_data
from reducenet.data.tensors import Data

BATCH = 128
WORKERS = (0, 1, 2)  # processes of a DataLoader
LR = 0.1


class Pictures(Dataset):
    """As torchvision's data sets are: a picture is made when it is asked for, and transformed then."""

    def __init__(self, data: Data):
        mean, std = data.mean.flatten().tolist(), data.std.flatten().tolist()
        self.images = data.train.images.permute(0, 2, 3, 1).numpy()  # uint8 [N, H, W, C]
        self.labels = data.train.labels.tolist()
        self.transform = transforms.Compose([
            transforms.RandomCrop(self.images.shape[1:3], padding=data.pad), transforms.RandomHorizontalFlip(),
            transforms.ToTensor(), transforms.Normalize(mean, std)])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int):
        image = self.images[index]
        return self.transform(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)), self.labels[index]


def epoch(net: torch.nn.Module, loader: DataLoader, device: str = "cpu") -> float:
    """Train for an epoch, from the weights that the network has; the seconds."""
    net.train()
    optimiser = torch.optim.SGD(net.parameters(), LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=len(loader))
    total, start = torch.zeros((), device=device), time.perf_counter()
    for x, y in loader:
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += loss.detach()
    total.item()  # a GPU is done when it can say this
    return time.perf_counter() - start


def loader(data: Data, workers: int, device: str = "cpu") -> DataLoader:
    """Its processes stay from epoch to epoch."""
    return DataLoader(Pictures(data), BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, pin_memory=device == "cuda")


def trying(number: int, made: dict, data: str, images: int, workers: int) -> Turn:
    """A turn: the better of two epochs after one that warms up, with loader processes that are gone again afterwards."""
    given = load_data(data).subset(images)

    def turn() -> float:
        batches = loader(given, workers)
        _, *seconds = (epoch(build(**made, **shape(given), seed=number), batches) for _ in range(3))
        return min(seconds)

    return turn


def training(number: int, made: dict, data: str, images: int, workers: int) -> Turn:
    """A turn: one epoch on the first `images` of `data`; the seconds."""
    given = load_data(data).subset(images)
    batches = loader(given, workers)
    return lambda: epoch(build(**made, **shape(given), seed=number), batches)


def shape(data: Data) -> dict[str, int]:
    """What the data say of a network."""
    return {"in_channels": data.in_channels, "num_classes": len(data.classes)}


class Usual(NamedTuple):
    """A way to train, whose `rate()` is images a second."""

    rate: Turn
    said: str


def at_its_best(crews: tuple[Crew, ...], made: dict, data: str, images: int) -> Usual:
    """The fastest of these, one process with two threads or two with one, and of 0 to 2 loader processes for each; all are tried first."""
    best = (0.0, crews[0], 0)
    for crew in crews:
        for workers in WORKERS:
            few = min(images, 10 * BATCH)
            rate = speed(crew, few, crew.turn(trying, made, data, few, workers))
            best = max(best, (rate(), crew, workers), key=lambda one: one[0])
    _, crew, workers = best
    processes = "two processes of one thread" if crew.count == 2 else "one process of two threads"
    said = f"the usual recipe at its best: {processes}, {workers or 'no'} loader process{'' if workers == 1 else 'es'}"
    return Usual(speed(crew, images, crew.turn(training, made, data, images, workers)), said)


def speed(crew: Crew, images: int, seconds: Turn) -> Turn:
    """Images a second of all processes together."""
    return lambda: crew.count * images / seconds()
