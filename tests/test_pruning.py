"""Pruning to a number of MACs, against MACs counted layer by layer, zeroed channels and torch-pruning's own surgery."""

import copy
import json

import pytest
import torch
import torch_pruning as tp
from networks import small
from torch import nn

from reducenet.data.tensors import load
from reducenet.methods.pruning import prune, resize
from reducenet.methods.vanillanet import vanillanet
from reducenet.moves.branch import drop_branch
from reducenet.moves.freezing import freeze
from reducenet.moves.side import attach
from reducenet.nets.activation import LearnedReLU
from reducenet.nets.layers import FrozenBatchNorm2d, Still
from reducenet.play import checkpoint
from reducenet.words import MoveError, perform

SHAPE = (1, 12, 12)
NETS = {
    "scaler": lambda **seed: small("scaler", **seed),
    "scaler 0": lambda **seed: small("scaler", scaler=0.0, **seed),
    "deep": lambda **seed: small("scaler", depth=14, width=8, expansion=4, post_relu=False, **seed),
    "lambda": lambda **seed: small("lambda", lam=0.3, **seed),
    "published": lambda **seed: small("published", **seed),
    "inverted": lambda **seed: small("inverted", width=8, **seed),
    "repvgg": lambda **seed: small("repvgg", width=8, **seed),
    "vanillanet": lambda **seed: vanillanet(num_classes=4, **seed),
}


@pytest.fixture(scope="module")
def data():
    return load("synthetic")


def counted(net, shape=SHAPE):
    """MACs of one image, from what every layer is shown and gives."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output[0].numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    net(torch.zeros(1, *shape, dtype=torch.float64))
    for hook in hooks:
        hook.remove()
    return total


def keep_of(decided):
    ((name, parameters),) = decided[0].items()
    assert (len(decided), name, list(parameters)) == (1, "resize", ["keep"])
    return parameters["keep"]


def gone_of(net, keep):
    """The outputs that do not stay, by name of the layer."""
    kept = {name: sides["out"] for name, sides in keep.items() if "out" in sides}
    return {name: [i for i in range(len(net.get_submodule(name).weight)) if i not in kept[name]] for name in kept}


def silence(net, gone):
    """A copy in which these outputs are zero, whatever comes in."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for name, indices in gone.items():
            for parameter in net.get_submodule(name).parameters():
                parameter[indices] = 0
    return net


@pytest.mark.parametrize(
    ("name", "importance"),
    [*((name, "group-magnitude") for name in NETS), ("deep", "bn-scale"), ("published", "random"), ("inverted", "random")],
)
def test_pruned_to_the_macs_asked_for_and_exact_where_the_channels_were_zero(name, importance, data, randomised, images):
    net = randomised(NETS[name]())
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    keep = keep_of(prune(net, data, macs=0.55, importance=importance))
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
    pruned, x = resize(net, keep), images(*SHAPE)
    assert counted(pruned) == pytest.approx(0.55 * counted(net), rel=0.01)
    assert pruned(x).shape == (3, 4)
    assert (pruned(x) - net(x)).abs().max() > 1e-3  # these channels did something
    silent = silence(net, gone_of(net, keep))
    assert (resize(silent, keep)(x) - silent(x)).abs().max() < 1e-10


@pytest.mark.parametrize("name", NETS)
def test_the_same_weights_as_torch_prunings_own_surgery(name, data, randomised, images):
    net = randomised(NETS[name]())
    keep = keep_of(prune(net, data, macs=0.6))
    gone, peer = gone_of(net, keep), copy.deepcopy(net)
    graph = tp.DependencyGraph().build_dependency(peer, (torch.zeros(1, *SHAPE, dtype=torch.float64),))
    names = {m: name for name, m in peer.named_modules()}
    for group in list(graph.get_all_groups()):
        if indices := gone.get(names[group[0].dep.target.module]):
            graph.get_pruning_group(group[0].dep.target.module, group[0].dep.handler, indices).prune()
    pruned, x = resize(net, keep), images(*SHAPE)
    for key, tensor in peer.state_dict().items():
        assert torch.equal(pruned.state_dict()[key], tensor), key
    assert torch.equal(pruned(x), peer(x))
    for key, module in pruned.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert repr(module) == repr(peer.get_submodule(key))


@pytest.mark.parametrize("width", [2, 3, 8])
def test_the_target_is_the_student_inside(width, data, randomised):
    for seed in range(2):
        net = randomised(small("scaler", width=width, seed=seed), seed)
        for importance in ("group-magnitude", "random"):
            pruned = resize(net, keep_of(prune(net, data, importance=importance, seed=seed)))
            assert counted(pruned) == pytest.approx(counted(drop_branch(net)), rel=0.01)


def test_a_number_of_macs_and_a_tolerance(data, randomised):
    net = randomised(NETS["deep"]())
    target = int(0.3 * counted(net))
    for tolerance in (0.01, 0.001):
        pruned = resize(net, keep_of(prune(net, data, macs=target, tolerance=tolerance)))
        assert counted(pruned) == pytest.approx(target, rel=tolerance)


def test_what_matters_least_goes_first(data, randomised):
    """Channels without any weight are found among the others, and nothing else goes."""
    net = randomised(NETS["deep"]())
    dead = {"stage1.0": [1, 5, 30], "stage2.1": [0], "stage3.0": [2, 3, 5, 7, 11]}
    expected = {}
    with torch.no_grad():
        for block, inner in dead.items():
            branch1 = net.get_submodule(block).branch1
            for tensor in (branch1[0].weight, branch1[1].weight, branch1[1].bias):
                tensor[inner] = 0
            branch1[3].weight[:, inner] = 0
            alive = [i for i in range(branch1[0].out_channels) if i not in inner]
            expected |= {f"{block}.branch1.0": {"out": alive}, f"{block}.branch1.1": {"out": alive}, f"{block}.branch1.3": {"in": alive}}
    macs = counted(resize(net, expected))
    for importance in ("group-magnitude", "bn-scale"):
        assert keep_of(prune(net, data, macs=macs, importance=importance, tolerance=1e-6)) == expected
    assert keep_of(prune(net, data, macs=macs, importance="random", tolerance=1e-3)) != expected


def test_classes_and_the_last_channel_of_a_group_stay(data, randomised, images):
    for name in ("scaler", "inverted", "vanillanet"):
        net = randomised(NETS[name]())
        with pytest.raises(MoveError, match=r"prune: 1 MACs are out of reach from \d+; the closest is (\d+)") as error:
            prune(net, data, macs=1)
        closest = int(str(error.value).split("the closest is ")[1].split(",")[0])
        pruned = resize(net, keep_of(prune(net, data, macs=closest, tolerance=1e-9)))
        assert counted(pruned) == closest
        assert pruned(images(*SHAPE)).shape == (3, 4)
        assert {len(m.weight) for m in pruned.modules() if isinstance(m, nn.BatchNorm2d)} == {1}


def test_random_is_seeded_and_device_decides_nothing(data):
    net = small("scaler")

    def decided(seed):
        return prune(net, data, importance="random", seed=seed)

    assert decided(1) == decided(1)
    assert decided(1) != decided(2)
    assert prune(net, data) == prune(net.train(), data, seed=5)


def test_the_move_rebuilds_the_shapes_on_fresh_weights_and_loads_from_one_file(data, randomised, images, tmp_path):
    chain = [{"build": {"block": "scaler", "width": 4, "expansion": 2, "num_classes": 4}}]
    net = randomised(perform(None, chain[0]))
    chain += json.loads(json.dumps(prune(net, data)))
    pruned = perform(net, chain[1])
    checkpoint.save(pruned.float(), tmp_path / "small.safetensors", chain)
    x = images(*SHAPE).float()
    assert torch.equal(checkpoint.load(tmp_path / "small.safetensors")(x), pruned(x))

    fresh = perform(small("scaler", seed=7), chain[1])
    assert {key: t.shape for key, t in fresh.state_dict().items()} == {key: t.shape for key, t in pruned.state_dict().items()}
    assert not torch.equal(fresh.stem[0].weight, pruned.stem[0].weight)


def test_frozen_flags_classes_and_types_stay(data, randomised, images):
    net = freeze(randomised(small("scaler")), ["conv3", "bn.affine", "stage1.*running*"]).bfloat16().train()
    pruned = resize(net, keep_of(prune(net, data)))
    assert [(n, p.requires_grad) for n, p in pruned.named_parameters()] == [(n, p.requires_grad) for n, p in net.named_parameters()]
    assert [type(m) for m in pruned.modules()] == [type(m) for m in net.modules()]
    assert isinstance(pruned.stage1[0].bn3, FrozenBatchNorm2d)
    assert all(p.dtype == torch.bfloat16 for p in pruned.parameters())
    assert all(m.training for m in pruned.modules() if not isinstance(m, Still))
    frozen = freeze(randomised(small("scaler")), "all")
    assert keep_of(prune(frozen, data)) == keep_of(prune(randomised(small("scaler")), data))  # gradients are not needed


def test_resize_shares_nothing_with_what_it_was_given(data):
    net = small("scaler")
    pruned = resize(net, keep_of(prune(net, data)))
    assert not {t.data_ptr() for t in net.state_dict().values()} & {t.data_ptr() for t in pruned.state_dict().values()}


class Gate(nn.Module):
    """A factor of its own for every channel: a parameter in no layer."""

    def __init__(self, width):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x):
        return x * self.factor


def test_layers_that_cannot_be_cut_keep_all_channels(data, randomised, images):
    net = randomised(small("scaler"))
    net.stage1[0].post, net.stage2[0].post = Gate(4).double(), LearnedReLU().double()
    net.stage3[0].branch2[0] = nn.Conv2d(8, 16, 3, 2, 1, groups=4, bias=False).double()
    keep = keep_of(prune(net, data, macs=0.6))
    assert not {"stem.0", "stage1.0.conv3", "stage2.0.conv3", "stage3.0.branch2.0"} & {n for n, sides in keep.items() if "out" in sides}
    assert "stage3.0.conv3" in keep
    silent, x = silence(net, gone_of(net, keep)), images(*SHAPE)
    assert (resize(silent, keep)(x) - silent(x)).abs().max() < 1e-10


def without_bn():
    net = small("scaler")
    net.stage1[0].branch1[1] = nn.Identity()
    return net


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (NETS["repvgg"], {}, "without a branch1 there is no student"),
        (NETS["scaler"], {"macs": 10**9}, r"below the \d+ of the net"),
        (NETS["scaler"], {"macs": 1.0}, r"macs must be .*, not 1\.0"),
        (NETS["scaler"], {"macs": 0}, "macs must be .*, not 0"),
        (NETS["scaler"], {"importance": "hope"}, "unknown importance 'hope'; known: group-magnitude, bn-scale, random"),
        (lambda: attach(NETS["scaler"]()), {}, r"stage1\.0\.branch2\.0 has a side branch .*; fold first"),
        (without_bn, {"importance": "bn-scale"}, r"no BN to score the channels of stage1\.0\.branch1\.0"),
    ],
)
def test_what_prune_refuses(make, options, message, data):
    with pytest.raises(MoveError, match=f"prune: .*{message}"):
        prune(make(), data, **options)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"stem.9": {"out": [0]}}, r"'stem\.9' is no plain conv, .*; there are: stem\.0, stem\.1"),
        ({"stem.2": {"out": [0]}}, r"'stem\.2' is no plain conv"),
        ({"stage1.0.branch2.0": {"in": [0]}}, r"'stage1\.0\.branch2\.0' is no plain conv"),  # it has a side branch
        ({"stem.1": {"in": [0]}}, r"stem\.1 has no side 'in'; it has: out"),
        ({"stem.0": {"out": [0, 4]}}, r"channels 0 to 3; .*\[0, 4\]"),
        ({"stem.0": {"out": [-1, 2]}}, r"not \[-1, 2\]"),
        ({"stem.0": {"out": [1, 0]}}, "ascending"),
        ({"stem.0": {"out": [1, 1]}}, "ascending"),
        ({"classifier": {"in": []}}, "one or more"),
    ],
)
def test_what_resize_refuses(keep, message):
    net = attach(small("scaler"), at="stage1*branch2.0")
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(MoveError, match=f"resize: .*{message}"):
        resize(net, {"stem.0": {"out": [0, 1]}, **keep})
    assert all(torch.equal(before[key], tensor) for key, tensor in net.state_dict().items())
