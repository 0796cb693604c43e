"""The picture that stands beside the live panel, for hosts without scripts."""

import matplotlib.pyplot as plt
import torch

from reducenet.algebra.exact import merge
from reducenet.course.figures import png
from reducenet.course.live.images import picked
from reducenet.course.panels.slide.bench import Bench, first_pair
from reducenet.course.panels.slide.material import LAMS, TITLES, recorded, telling
from reducenet.style import BLUE, GREY, ORANGE, drawing


@torch.no_grad()
def gaps(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair less the one conv for one image, the largest over all channels: padded first [lams, H, W], padded second at lam 1 [H, W]."""
    net, held = bench.nets["slide"], picked(bench.held, len(bench.data.classes))
    image = bench.data.normalise(held.images[telling(bench, held)][None])
    name, first, second = first_pair(net)
    seen = []
    hook = net.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(image)
    hook.remove()
    (x,), one = seen, merge(first, second)
    inner = first(x)
    slid = torch.stack([second(torch.where(inner > 0, inner, lam * inner)) for lam in LAMS])
    bare = torch.nn.functional.conv2d(x, first.weight, first.bias, first.stride)
    late = torch.nn.functional.conv2d(bare, second.weight, second.bias, padding=first.padding)
    return (slid - one(x)).abs().amax(2)[:, 0], (late - one(x)).abs().amax(1)[0]


def drawn(bench: Bench) -> tuple[bytes, str]:
    """A PNG and what it says: accuracy against lam for both networks, and where two convs and one differ."""
    of, curves = len(bench.held.labels), {name: recorded(net, bench) for name, net in bench.nets.items()}
    slid, late = (gap.numpy() for gap in gaps(bench))
    with drawing():
        figure, (left, bend, *maps) = plt.subplots(1, 5, figsize=(11, 3.2), width_ratios=(2.2, 1.2, 1, 1, 1))
        for name, colour, marker in (("relu", BLUE, "o"), ("slide", ORANGE, "D")):
            left.plot(LAMS, [100 * right / of for right in curves[name]], color=colour, marker=marker, ms=4)
            left.text(0 if name == "relu" else 1, 90, TITLES[name], color=colour, ha="left" if name == "relu" else "right")
        left.set(xlabel="lam (0: ReLU, 1: identity)", ylabel=f"% of {of} images right", ylim=(0, 100))
        for lam, shade in ((0, 1.0), (0.5, 0.6), (1, 0.3)):
            bend.plot([-2, 0, 2], [-2 * lam, 0, 2], color=GREY if lam < 1 else BLUE, alpha=shade if lam < 1 else 1, label=f"lam {lam:g}")
        bend.set(title="between the convs", aspect="equal")
        bend.legend(frameon=False, fontsize=8)
        shown = (("lam 0", slid[0]), ("lam 1: one conv", slid[-1]), ("lam 1, padded\nbefore the 1×1", late))
        for axes, (title, gap) in zip(maps, shown, strict=True):
            axes.imshow(gap, cmap="magma", vmin=0, vmax=max(slid[0].max(), late.max()))
            axes.set(title=title, xticks=[], yticks=[], xlabel=f"up to {0 if gap.max() < 1e-4 else gap.max():.2g}")
        file = png(figure)
        plt.close(figure)
    said = [f"{TITLES[name]}, {100 * row[0] / of:.0f} % of {of} held-out images are right at lam 0 and {100 * row[-1] / of:.0f} % at lam 1"
            for name, row in curves.items()]  # fmt: skip
    alt = (
        f"Slide the activation, a picture of the live panel. A network {said[0]}; one {said[1]}. Two convolutions and their one merged "
        f"convolution differ by up to {slid[0].max():.2g} at lam 0 and by nothing at lam 1; padded before the second, on the ring alone."
    )
    return file, alt
