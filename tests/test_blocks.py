import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reducenet.learn.measure import macs, parameters
from reducenet.moves.branch import drop_branch
from reducenet.nets.blocks import PlainBlock, PublishedBlock, ScalerBlock
from reducenet.nets.networks import build


class Article(nn.Module):
    """The article's listing, kept apart as the oracle: its forward, its order of layers, no final ReLU."""

    def __init__(self, block):
        super().__init__()
        self.b = block

    def forward(self, x):
        b = self.b
        c1, n1, _, c2, n2, _ = b.branch1
        c3, n3, _ = b.branch2
        branch1 = F.relu(n2(c2(F.relu(n1(c1(x))))))
        out = b.scaler * branch1 + F.relu(n3(c3(x)))
        return b.bn3(b.conv3(out)) + b.shortcut(x)


@pytest.mark.parametrize(("in_planes", "planes", "stride"), [(8, 8, 1), (4, 8, 2), (4, 8, 1)])
@pytest.mark.parametrize("scaler", [0.0, 0.5, 1.0])
def test_scaler_block_is_the_articles(in_planes, planes, stride, scaler, randomised, images):
    block = randomised(ScalerBlock(in_planes, planes, stride, expansion=3, scaler=scaler, post_relu=False))
    x = images(in_planes, 7)
    assert torch.equal(block(x), Article(block)(x))
    assert block.branch1[0].out_channels == 3 * planes
    block.post = nn.ReLU()
    assert torch.equal(block(x), F.relu(Article(block)(x)))


def test_scaler_0_is_the_student_bitwise_and_half_is_the_midpoint(randomised, images):
    block = randomised(ScalerBlock(4, 8, 2, expansion=2))
    student = PlainBlock(4, 8, 2).double().eval()
    keys = student.state_dict().keys()
    student.load_state_dict({k: v for k, v in block.state_dict().items() if k in keys})  # strict: nothing missing
    x = images(4, 9)
    fronts = {}
    for scaler in (0.0, 0.5, 1.0):
        block.scaler = scaler
        fronts[scaler] = block.front(x)
        if scaler == 0:
            assert torch.equal(block(x), student(x))
    torch.testing.assert_close(fronts[0.5], (fronts[0.0] + fronts[1.0]) / 2, rtol=1e-12, atol=1e-12)


def test_published_block_drops_to_a_resnet_block(randomised, images):
    block = randomised(PublishedBlock(4, 8, 2, expansion=2))
    student = drop_branch(nn.Sequential(block))[0]
    x = images(4, 9)
    expected = F.relu(block.bn3(block.conv3(block.act(block.branch2(x)))) + block.shortcut(x))
    assert torch.equal(student(x), expected)


@pytest.mark.parametrize(
    ("depth", "width", "teacher", "student"),
    [
        (20, 16, (412_058, 62.05), (272_474, 40.81)),
        (20, 32, (1_640_234, 247.30), (1_084_586, 162.37)),
        (20, 64, (6_544_970, 987.43), (4_327_754, 647.69)),
        (56, 16, (1_320_602, 194.17), (855_770, 125.75)),
        (56, 32, (5_263_658, 775.78), (3_412_394, 502.11)),
    ],
)
def test_published_sizes_to_the_digit(depth, width, teacher, student):
    """The table of the article's repository: parameters and millions of multiply-adds, CIFAR-10."""
    net = build("published", depth=depth, width=width, expansion=1, in_channels=3).eval()
    for made, (count, millions) in ((net, teacher), (drop_branch(net), student)):
        assert parameters(made) == count
        assert round(macs(made, (3, 32, 32)) / 1e6, 2) == millions
