"""What tests share: networks with randomised BN statistics, so that a forgotten BN term cannot hide behind fresh ones."""

import functools

import pytest
import torch
from studies import forget
from torch import nn

from reducenet.nets.seeding import generator
from reducenet.words import declared, lock

# Files whose tests train, search, draw or try thousands of cases: most of the time of `make test`, which `make test-fast` does without.
LONG = {"test_algebra", "test_borders", "test_course", "test_depth", "test_depthshrinker", "test_export", "test_page", "test_pruning",
        "test_published", "test_repopt", "test_report", "test_statistics", "test_supernet"}  # fmt: skip


def pytest_ignore_collect(collection_path, config):
    """What will not run need not be imported."""
    return True if collection_path.stem in LONG and "not long" in config.option.markexpr else None


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in LONG:
            item.add_marker(pytest.mark.long)


def once(function):
    """What the function says of a text, which is asked once."""
    cached = functools.cache(function)
    return lambda *given: (cached if all(isinstance(text, str) for text in given) else function)(*given)


READ = [(module, name, once(getattr(module, name))) for module, name in ((lock, "meaning"), (lock, "imported"), (declared, "_read"))]


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def anew(monkeypatch):
    """`anew()`: as in a new process, nothing from outside is a word and nothing that was read is remembered; so it is afterwards.

    But a text that was read before is not taken apart again.
    """
    for module, name, again in READ:
        monkeypatch.setattr(module, name, again)
    forget()
    yield forget
    monkeypatch.undo()
    forget()


@pytest.fixture
def randomised():
    """`randomised(net)`: the net in float64 and eval mode, every BN with statistics and parameters far from fresh."""

    def randomise(net: nn.Module, *key) -> nn.Module:
        net = net.double().eval()
        for name, bn in net.named_modules():
            if isinstance(bn, nn.BatchNorm2d):
                draw = generator("randomised", name, *key)

                def uniform(like, low, high, draw=draw):
                    return low + (high - low) * torch.rand(like.shape, generator=draw, dtype=torch.float64)

                bn.running_mean.copy_(uniform(bn.running_mean, -1, 1))
                bn.running_var.copy_(uniform(bn.running_var, 0.3, 3))
                with torch.no_grad():
                    bn.weight.copy_(uniform(bn.weight, 0.5, 2))
                    bn.bias.copy_(uniform(bn.bias, -1, 1))
        return net

    return randomise


@pytest.fixture
def images():
    """`images(channels, height, width)`: three random float64 images."""

    def make(channels: int, height: int, width: int | None = None) -> torch.Tensor:
        return torch.randn(3, channels, height, width or height, dtype=torch.float64, generator=generator("images"))

    return make
