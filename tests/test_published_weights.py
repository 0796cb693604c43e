"""The oracle is the repository's network, written again here from its description, with its names."""

import pytest
import torch
import torch.nn.functional as F
from convs import filled
from torch import nn

from reducenet import drop_branch, load_published
from reducenet.play.checkpoint import CheckpointError


def conv(a, b, k, stride=1):
    return nn.Conv2d(a, b, k, stride, k // 2, bias=False)


class TheirBlock(nn.Module):
    def __init__(self, a, b, stride, expansion, gates):
        super().__init__()
        self.scaler, self.lora = gates
        wide = expansion * b
        self.branch1 = nn.Sequential(conv(a, wide, 3, stride), nn.BatchNorm2d(wide), nn.ReLU(), conv(wide, b, 1), nn.BatchNorm2d(b))
        self.branch2 = nn.Sequential(conv(a, b, 3, stride))
        self.lora_branch = nn.Sequential(conv(a, b, 1, stride), nn.BatchNorm2d(b))
        self.fuse = nn.Sequential(nn.BatchNorm2d(b), nn.ReLU(), conv(b, b, 3), nn.BatchNorm2d(b))
        self.shortcut = nn.Sequential(*([conv(a, b, 1, stride), nn.BatchNorm2d(b)] if stride != 1 or a != b else []))

    def forward(self, x):
        front = self.branch1(x) + self.branch2(x) if self.scaler == 1.0 else self.branch2(x)
        return F.relu(self.fuse(front) + self.shortcut(x))


class Theirs(nn.Module):
    def __init__(self, blocks=1, width=4, expansion=2, classes=5):
        super().__init__()
        self.scaler, self.lora = (nn.Parameter(torch.tensor(value), requires_grad=False) for value in (1.0, 0.0))
        self.conv1 = nn.Sequential(conv(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        a = width
        for stage in (1, 2, 3):
            b, layers = width * 2 ** (stage - 1), []
            for i in range(blocks):
                layers.append(TheirBlock(a, b, 2 if stage > 1 and i == 0 else 1, expansion, (self.scaler, self.lora)))
                a = b
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(a, classes)

    def forward(self, x):
        return self.linear(self.layer3(self.layer2(self.layer1(self.conv1(x)))).mean((2, 3)))


def theirs(**sizes):
    net = filled(Theirs(**sizes), "theirs")
    net.scaler.data.fill_(1.0)
    return net.float()


@pytest.mark.parametrize("sizes", [{}, dict(blocks=2, width=8, expansion=1, classes=10)])
@torch.no_grad()
def test_a_published_file_is_their_network_open_and_shut(sizes, tmp_path):
    net, x = theirs(**sizes), torch.rand(2, 3, 16, 16)
    torch.save(net.state_dict(), tmp_path / "teacher.pth")
    ours, dropped = load_published(tmp_path / "teacher.pth")
    torch.testing.assert_close(ours.double()(x.double()), net.double()(x.double()), rtol=1e-10, atol=1e-10)
    names = {name.rpartition(".")[2] if "lora_branch" not in name else "lora_branch" for name in dropped}
    assert names == {"scaler", "lora", "lora_branch"}
    assert len(dropped) == len(net.state_dict()) - len(ours.state_dict())
    net.scaler.data.fill_(0.0)
    torch.testing.assert_close(drop_branch(ours)(x.double()), net(x.double()), rtol=1e-10, atol=1e-10)


def test_other_files_are_refused_in_one_line(tmp_path):
    net, file = theirs(), tmp_path / "some.pth"
    state = net.state_dict()
    cases = {
        "not a file of weights": lambda: file.write_bytes(b"no such thing"),
        "not a state dict": lambda: torch.save([1, 2], file),
        "not the layout.*stem.0.weight": lambda: torch.save(nn.Linear(2, 2).state_dict(), file),
        r"stage1.0.branch1.4.weight is missing": lambda: torch.save({k: v for k, v in state.items() if "branch1.4" not in k}, file),
        "more.weight has no place": lambda: torch.save(state | {"more.weight": torch.zeros(2)}, file),
        "stage2.0.conv3.weight is of another shape": lambda: torch.save(state | {"layer2.0.fuse.2.weight": torch.zeros(2)}, file),
    }
    for reason, write in cases.items():
        write()
        with pytest.raises(CheckpointError, match=reason) as refused:
            load_published(file)
        assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match="not a file of weights"):
        load_published(tmp_path / "missing.pth")


def test_nothing_in_a_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("sprung",))

    torch.save({"conv1.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        load_published(tmp_path / "trap.pth")
