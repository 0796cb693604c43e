"""The report counts what a count by hand counts."""

import pytest
import torch
from networks import Beside, count
from torch import nn

from reducenet.algebra.exact import NotExact
from reducenet.deploy import report as report_module
from reducenet.deploy.report import fuse_report
from reducenet.nets.networks import build


def test_the_report_counts_before_and_after(randomised):
    merged = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(), nn.Conv2d(8, 4, 1), nn.ReLU()]
    dear = [nn.Conv2d(4, 2, 1, bias=False), nn.Conv2d(2, 9, 1)]
    net = randomised(nn.Sequential(*merged, *dear, Beside(nn.Conv2d(9, 9, 3, padding=1), nn.Identity()))).float()
    new, report = fuse_report(net, (3, 6, 5), seconds=0.01)
    assert count(new, nn.Conv2d) == 4
    pixels = 6 * 5
    assert report.before["MACs"] == pixels * (8 * 27 + 32 + 8 + 18 + 9 * 9 * 9)
    assert report.after["MACs"] == pixels * (4 * 27 + 8 + 18 + 9 * 9 * 9)
    assert report.before["parameters"] - report.after["parameters"] == (8 * 27 + 8 + 16 + 32 + 4) - (4 * 27 + 4)
    assert [(report.before[what], report.after[what]) for what in ("convolutions", "BatchNorms")] == [(5, 4), (1, 0)]
    assert report.before["latency"] > 0 < report.after["latency"]
    assert 0 < report.difference <= 1e-10 * report.largest
    assert report.largest > 0.01
    text = " ".join(str(report).split())
    lines = (
        "dropped 2: 2, 7.branches.1",
        "folded 1: 1 into 0",
        "merged 1: 3 into 0",
        "added 1: the identity into 7.branches.0",
        "left 2: 5 and 6 (merge: would raise the MACs per output pixel from 26 to 36); 6 and 7.branches.0 (merge: bias before padding",
        "latency of 1 image",
    )
    for line in lines:
        assert line in text
    assert max(map(len, str(report).splitlines())) <= 110
    assert "| BatchNorms | 1 | 0 |" in report._repr_markdown_()
    assert "`3` into `0`" in report._repr_markdown_()


def test_the_report_of_a_batch_and_of_bad_examples(randomised):
    net = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    report = fuse_report(net, torch.zeros(2, 3, 5, 5), seconds=0.01).report
    assert "nothing to fuse" in str(report)
    assert "latency of 2 images" in str(report)
    assert report.difference == 0
    half = build("lambda", lam=0.5, width=4, expansion=2).eval()
    with pytest.raises(NotExact, match=r"lam = 0\.5"):
        fuse_report(half, (1, 8, 8))
    assert fuse_report(half, (1, 8, 8), strict=False, seconds=0.01).report.after["BatchNorms"] == 0
    for bad in (torch.zeros(3, 5, 5), (5, 5), {"images": torch.zeros(2, 3, 5, 5)}):
        with pytest.raises(ValueError, match=r"a batch of images \[N, C, H, W\] or a shape \(C, H, W\), not"):
            fuse_report(net, bad)


def test_the_report_says_how_it_was_found_and_what_no_pass_calls(randomised):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.aux = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))

        def forward(self, x):
            return (self.bn(self.conv(x.float())), self.aux(x.float())) if self.training else self.bn(self.conv(x.float()))

    new, report = fuse_report(randomised(Net()).float(), torch.rand(2, 3, 6, 6), seconds=0.01)
    assert (count(new, nn.Conv2d), report.before["convolutions"], report.after["BatchNorms"]) == (1, 2, 0)
    text = " ".join(str(report).split())
    assert "never called in eval mode and gone 1: aux" in text
    assert "passes in float32, since it runs in nothing finer: " in text
    assert report.proof.passes == 4
    assert 0 <= report.difference < 1e-5 < report.largest
    for side in (report.before, report.after):
        low, high = side["quartiles"]
        assert 0 < low <= side["latency"] <= high


def test_both_sides_take_turns_at_the_clock(randomised, monkeypatch):
    turns = []
    monkeypatch.setattr(report_module, "latency", lambda net, *_, **__: {"median": turns.append(count(net, nn.BatchNorm2d)) or len(turns)})
    report = fuse_report(randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))), (3, 6, 6)).report
    assert turns == [1, 0] * report_module.ROUNDS
    assert (report.before["latency"], report.after["latency"]) == (7, 8)
    assert report.before["quartiles"] == (4, 10)
