"""`fuse` on 93 networks of timm, untrained and with all their BNs far from fresh: `python tests/sweep.py` writes docs/timm.md."""

import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reducenet.algebra.exact import NotExact
from reducenet.deploy.fuse import fused
from reducenet.nets.seeding import generator

PAGE = Path(__file__).parents[1] / "docs" / "timm.md"
NETS = """
bat_resnext26ts botnet26t_256 coat_lite_mini convmixer_768_32 convnext_atto crossvit_9_240 cs3darknet_focus_s cspnext_tiny cspresnet50
darknet17 darknet53 densenet121 dla34 dla46_c dpn48b dpn68 eca_halonext26ts eca_resnext26ts ecaresnet26t edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 efficientnet_b0 efficientnet_lite0 efficientvit_b0 efficientvit_m0 ese_vovnet19b_slim
fasternet_t0 fastvit_t8 fbnetc_100 fbnetv3_b gcresnet33ts gernet_s ghostnet_050 ghostnetv2_100 hardcorenas_a hgnet_tiny hgnetv2_b0
hrnet_w18_small inception_next_atto inception_v3 inception_v4 lcnet_050 legacy_seresnet18 legacy_xception levit_128s lcnetv2_small
mixnet_s mnasnet_small mobilenet_edgetpu_v2_xs mobilenetv1_100 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small mobileone_s0
mobilevit_xxs mobilevitv2_050 nextvit_small nf_resnet26 poolformer_s12 pvt_v2_b0 regnetx_002 regnety_002 regnetz_b16 repghostnet_050
repvgg_a0 repvit_m0_9 res2net50_14w_8s resnest14d resnet18 resnet18d resnet26t resnetblur18 resnetv2_18 resnext26ts rexnet_100
selecsls42 semnasnet_050 seresnet18 shvit_s1 skresnet18 spnasnet_100 starnet_s1 swiftformer_xs test_efficientnet test_resnet
tf_efficientnet_b0 tf_mobilenetv3_small_075 tinynet_e tresnet_m vgg11_bn visformer_tiny xcit_nano_12_p16_224
""".split()  # noqa: SIM905


class Row(NamedTuple):
    name: str
    outcome: str
    convs: tuple[int, int]
    norms: tuple[int, int]
    left: dict[str, int]


def norms(net: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in net.named_modules() if isinstance(m, _BatchNorm) or "running_mean" in m._buffers}


def made(name: str) -> tuple[nn.Module, int]:
    """The network with four classes, in float64 and eval mode, and a size of image that it takes."""
    import timm

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = timm.create_model(name, num_classes=4).double().eval()
    with torch.no_grad():
        for place, norm in norms(net).items():
            draw = generator("timm", place)
            norm.running_mean.normal_(0, 0.3, generator=draw)
            norm.running_var.uniform_(0.5, 1.5, generator=draw)
            for tensor, low in ((norm.weight, 0.5), (norm.bias, -0.5)):
                if tensor is not None:
                    tensor.uniform_(low, low + 1, generator=draw)
        try:
            net(images(64))
            return net, 64
        except Exception:
            return net, net.default_cfg["input_size"][-1]


def images(size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator("timm", size, count))


@torch.no_grad()
def swept(name: str) -> Row:
    """What comes of it, held against the network itself on images that `fuse` has not seen, of the size it has seen and another."""
    net, size = made(name)
    convs = sum(isinstance(m, nn.Conv2d) for m in net.modules())
    before, state = len(norms(net)), {key: tensor.clone() for key, tensor in net.state_dict().items()}
    try:
        new, changes = fused(net, example=images(size, 1))
    except NotExact as refusal:
        return Row(name, f"refused: {refusal}", (convs, convs), (before, before), {})
    assert all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())
    outcome = "equal"
    for x in (images(size, 3), images(size + 32, 2)):
        try:
            expected = net(x)
        except Exception:  # it is for one size only
            continue
        gap, largest = (new(x) - expected).abs().max().item(), expected.abs().max().item()
        if not gap <= 1e-9 * largest:
            outcome = f"WRONG by {gap:.1e} of {largest:.1e}"
    left = norms(new)
    said = {inner: why for names, why in changes.left.items() for inner in names}
    reasons = Counter(
        next((why for inner, why in said.items() if inner == place or place.startswith(f"{inner}.")), "WITHOUT A WORD") for place in left
    )
    return Row(name, outcome, (convs, sum(isinstance(m, nn.Conv2d) for m in new.modules())), (before, len(left)), dict(reasons))


HEAD = """# `fuse` on timm

{total} networks of timm {version}, untrained, with all BNs far from fresh, in float64: {equal} come back equal (within 1e-9 of the largest
logit, at two sizes), {refused} are refused with the reason. Of {before:,} BNs in those that are equal {folded:,} are gone; every one that
stays is listed with its reason. `python tests/sweep.py` writes this page, `make test-slow` checks it.

| network | outcome | convs | BNs | BNs that stay, by reason |
|:--|:--|--:|--:|:--|
"""


def line(row: Row) -> str:
    left = "; ".join(f"{count}: {why}" for why, count in sorted(row.left.items()))
    cells = (row.name, row.outcome, *(" → ".join(map(str, pair)) for pair in (row.convs, row.norms)), left)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def page(rows: list[Row]) -> str:
    import timm

    equal = [row for row in rows if row.outcome == "equal"]
    before, after = (sum(row.norms[side] for row in equal) for side in (0, 1))
    numbers = dict(
        total=len(rows), version=timm.__version__, equal=len(equal), refused=len(rows) - len(equal), before=before, folded=before - after
    )
    return HEAD.format(**numbers) + "".join(map(line, rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = []
    for name in sys.argv[1:] or NETS:
        rows.append(swept(name))
        print(line(rows[-1]), end="", flush=True)
    if not sys.argv[1:]:
        PAGE.write_text(page(rows), encoding="utf-8")
