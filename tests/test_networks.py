import numpy as np
import pytest
import torch

from reducenet.nets.networks import build


def test_shapes_and_features():
    net = build("scaler", width=4, num_classes=7, in_channels=3)
    x = torch.randn(2, 3, 32, 32)
    assert net(x).shape == (2, 7)
    assert net.features(x).shape == (2, 16)
    assert torch.equal(net.eval()(x), net.classifier(net.features(x)))


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (14, 2), (20, 3)])
def test_depth_counts_convs(depth, blocks):
    net = build("plain", depth=depth, width=4)
    assert [len(stage) for stage in (net.stage1, net.stage2, net.stage3)] == [blocks] * 3


def test_one_seed_starts_shared_parts_alike():
    """Teacher and student, narrow and wide: what they share by name starts alike, whatever else they hold."""
    plain, teacher, wide = build("plain", seed=3), build("scaler", seed=3), build("scaler", expansion=8, seed=3)
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, teacher.get_parameter(name)), name
        assert torch.equal(parameter, wide.get_parameter(name)), name
    assert not torch.equal(build("plain", seed=4).classifier.weight, plain.classifier.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 9}, "6n \\+ 2"),
        ({"block": "scalar"}, "^build: unknown block 'scalar' .*known: plain, scaler, published, lambda"),
        ({"width": 0}, "^build: width must be at least 1, not 0"),
        ({"block": "lambda", "lam": 2.0}, "^build: lam must be at most 1, not 2.0"),
        ({"block": "plain", "lam": 0.5}, "^build: nothing reads 'lam' here; leave it out"),
        ({"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ({"in_channels": 0}, "in_channels must be at least 1, not 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def test_a_seed_is_a_number_whatever_its_type():
    assert torch.equal(build(seed=np.int64(3)).classifier.weight, build(seed=3).classifier.weight)
