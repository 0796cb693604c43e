import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from reducenet.nets.activation import slide
from reducenet.nets.networks import build
from reducenet.play.checkpoint import CheckpointError, chain_of, digest, load, save
from reducenet.words import find, perform

SIZE = dict(width=4, num_classes=4)
BUILD, WIDE = ({"build": dict(SIZE, block=block, expansion=2)} for block in ("scaler", "lambda"))
PLAIN, REPVGG = ({"build": dict(SIZE, block=block)} for block in ("plain", "repvgg"))
INVERTED = {"build": dict(SIZE, block="inverted", expansion=2, post_relu=False)}
ALL, DROP, LINEAR, FUSE = {"freeze": {"parts": ["all"]}}, {"drop_branch": {}}, {"linearise": {}}, {"fuse": {}}
SLIDE = {"fit": {"epochs": 1, "slide": "linear"}}
SENTENCES = [
    [BUILD],
    [BUILD, {"fit": {"epochs": 3}}, DROP, {"freeze": {"parts": ["classifier"]}}],
    [BUILD, DROP, ALL, {"attach": {"expansion": 2}}],
    [BUILD, DROP, ALL, {"attach": {"expansion": 2}}, {"fold": {}}],
    [BUILD, DROP, {"attach": {"rank": 2, "order": "conv1-conv3", "space": "branch"}}],
    [BUILD, DROP, {"attach": {"bn": True, "lam": 0.0, "join": "after-bn"}}, SLIDE, {"fold": {}}],
    [BUILD, {"narrow": {"expansion": [1, 0, 2]}}, {"set_scaler": {"scaler": 0.5}}],
    [
        BUILD,
        {
            "resize": {
                "keep": {"stage1.0.branch1.0": {"out": [0, 2]}, "stage1.0.branch1.1": {"out": [0, 2]}, "stage1.0.branch1.3": {"in": [0, 2]}}
            }
        },
    ],
    [{"build": dict(WIDE["build"], lam=1.0)}, FUSE],
    [WIDE, SLIDE, FUSE],
    [WIDE, ALL, {"renew": {}}],
    [WIDE, {"renew": {"start": "merged"}}, FUSE],
    [WIDE, {"learn_lam": {}}],
    [
        WIDE,
        {"learn_lam": {}},
        {"settle": {"at": "stage1.*"}},
        {"linearise": {"at": ["stage2.*", "stage3.*"]}},
        {"fit": {"epochs": 1}},
        FUSE,
    ],
    [PLAIN, {"loosen": {}}, {"settle": {"at": "stage1.*"}}, LINEAR, {"pad_first": {}}, {"fit": {"epochs": 1}}, {"fuse": {"dearer": True}}],
    [INVERTED, LINEAR, {"add_relu": {}}, {"pad_first": {}}, {"recalibrate": {}}, FUSE],
    [PLAIN, {"repopt": {}}, {"fit": {"epochs": 1}}, {"fold": {}}],
    [PLAIN, {"ridge": {"teacher": "teacher"}}, {"project": {"factor": 2}}],
    [BUILD, {"fit": {"epochs": 1, "loss": "kd", "teacher": "teacher"}}, DROP, {"reinit": {"at": "stage1.*"}}],
    [REPVGG, FUSE],
    [{"build": dict(SIZE, block="published", expansion=2)}, FUSE],
    [{"vanillanet": {"width": 4, "num_classes": 4}}, SLIDE, FUSE],
]


def play(chain):
    """The structure, move by move."""
    net = None
    for move in chain:
        if "fit" in move:
            if "slide" in move["fit"]:
                slide()(net, 1.0)
        elif find("sentence", next(iter(move))).kind != "tune":
            net = perform(net if net is None else net.eval(), move, seed=3)
    return net


@pytest.mark.parametrize("chain", SENTENCES, ids=lambda chain: "-".join(next(iter(move)) for move in chain))
def test_load_rebuilds_whatever_the_moves_made(chain, randomised, tmp_path):
    net = play(chain)
    randomised(net).float()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    save(net, tmp_path / "net.safetensors", chain, seed=3)
    back = load(tmp_path / "net.safetensors")
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(back(x), net(x))
    assert chain_of(tmp_path / "net.safetensors") == chain
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in net.parameters()]
    assert [f.name for f in tmp_path.iterdir()] == ["net.safetensors"]


def test_damaged_foreign_and_mismatched_files(tmp_path):
    net, path = play([BUILD]), tmp_path / "net.safetensors"
    save(net, path, [BUILD])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="net.safetensors: not a readable checkpoint") as error:
        load(path)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load(tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of reducenet"):
        load(path)
    for about, message in (("[1]", "not a readable"), ('{"format": 2}', "a checkpoint of format 2"), ("{", "not a readable")):
        save_file({"a": torch.zeros(1)}, path, {"reducenet": about})
        with pytest.raises(CheckpointError, match=message):
            load(path)
    about = {"format": 1, "chain": [BUILD, DROP], "seed": 0, "training": True}
    save_file(net.state_dict(), path, {"reducenet": json.dumps(about)})
    with pytest.raises(CheckpointError, match=r"do not fit the moves in the file: by the moves there is no stage1\.0\.branch1"):
        load(path)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ([], "the sentence is empty"),
        (["drop_branch"], "a sentence starts with build or vanillanet or best_of, not with drop_branch"),
        ([BUILD], r"stage1\.0\.branch1\.0\.weight is missing"),
        ([BUILD, "drop_branch", "attach"], r"stage1\.0\.branch2\.0\.parametrizations\.weight\.original is missing"),
        (
            [{"build": dict(BUILD["build"], width=8)}, "drop_branch"],
            r"stem\.0\.weight is of shape \(4, 1, 3, 3\), by the moves of \(8, 1, 3, 3\)",
        ),
        ([BUILD, "shrink"], "unknown move 'shrink'"),
        ([BUILD, {"freeze": {}, "fold": {}}], "a move is a name or a table with one name"),
        ([BUILD, {"drop_branch": 3}], "drop_branch: takes no parameters, not 3"),
        ([BUILD, {"search_width": 0.5}], "search_width: what it decides is not known before it has data"),
    ],
)
def test_a_chain_that_leads_elsewhere_is_not_written(chain, message, tmp_path):
    """What could not be loaded again would be lost."""
    with pytest.raises(CheckpointError, match=f"not written; the chain does not lead to this network: {message}"):
        save(play([BUILD, DROP]), tmp_path / "net.safetensors", chain)
    assert not list(tmp_path.iterdir())


def test_chains_are_spelled_as_in_a_study_file(tmp_path):
    spelled = [BUILD, {"fit": 3}, "drop_branch", {"freeze": ["classifier"]}]
    save(play([BUILD, DROP, {"freeze": {"parts": ["classifier"]}}]), tmp_path / "net", spelled)
    assert chain_of(tmp_path / "net") == [BUILD, {"fit": {"epochs": 3}}, DROP, {"freeze": {"parts": ["classifier"]}}]
    assert [name for name, p in load(tmp_path / "net").named_parameters() if not p.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]


@pytest.mark.engine
def test_equal_networks_are_equal_files(tmp_path):
    """In another process too: safetensors writes several metadata keys in any order."""
    chain = [{"build": {"block": "plain", "width": 4}}]
    code = f"from reducenet import build, save; import sys; save(build('plain', width=4), sys.argv[1], {chain})"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True)
    save(build("plain", width=4), tmp_path / "here", chain)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


# ---- two networks in one file


def shared(changed=False):
    """A teacher, the student inside it, and the chain to both."""
    large = perform(None, BUILD, seed=3).eval()
    small = perform(large, "drop_branch")
    if changed:
        small.classifier.bias.data[0] += 1
    return large, small, [BUILD, {"fit": {"epochs": 1}}, "drop_branch"]


def test_a_teacher_and_the_student_inside_it_share_a_file(tmp_path):
    large, small, chain = shared()
    save(small, tmp_path / "both", chain, seed=3, large=large)
    assert digest(load(tmp_path / "both")) == digest(small)
    assert digest(load(tmp_path / "both", large=True)) == digest(large)
    assert chain_of(tmp_path / "both") == [BUILD, {"fit": {"epochs": 1}}, {"drop_branch": {}}]
    assert set(load_file(tmp_path / "both")) == set(large.state_dict())  # each tensor once


def test_two_networks_that_share_nothing_are_no_pair(tmp_path):
    large, small, chain = shared(changed=True)
    with pytest.raises(CheckpointError, match=r"only where they share tensors; classifier\.bias differs"):
        save(small, tmp_path / "both", chain, seed=3, large=large)
    _, small, chain = shared()
    with pytest.raises(CheckpointError, match="no beginning of the chain leads to the large network"):
        save(small, tmp_path / "both", chain, seed=3, large=perform(small, "attach"))
    assert not list(tmp_path.iterdir())
    save(small, tmp_path / "one", chain, seed=3)
    with pytest.raises(CheckpointError, match="holds one network, not a large and a small one"):
        load(tmp_path / "one", large=True)


def test_a_digest_is_shared_by_equal_networks_alone():
    net = perform(None, BUILD, seed=3)
    assert digest(net) == digest(perform(None, BUILD, seed=3))
    assert len(digest(net)) == 16
    others = [perform(None, BUILD, seed=4), perform(net, "drop_branch"), perform(None, BUILD, seed=3).double()]
    changed = perform(None, BUILD, seed=3)
    changed.stage1[0].branch2[1].running_mean[0] += 1e-7  # a buffer, in the last digits
    assert len({digest(other) for other in (net, changed, *others)}) == 5


def test_dtype_and_mode_come_back(tmp_path):
    net = perform(None, PLAIN, seed=3).double().eval()
    save(net, tmp_path / "net", [PLAIN], seed=3)
    back = load(tmp_path / "net")
    assert (back.classifier.weight.dtype, back.training) == (torch.float64, False)
    save(net.train(), tmp_path / "net", [PLAIN], seed=3)
    assert load(tmp_path / "net").training


def test_a_path_that_leads_nowhere_is_one_line(tmp_path):
    net = build(**PLAIN["build"])
    with pytest.raises(CheckpointError, match=r"not written; there is no folder .*missing; make it first$"):
        save(net, tmp_path / "missing" / "net", [PLAIN])
    with pytest.raises(CheckpointError, match="not written; it is a folder"):
        save(net, tmp_path, [PLAIN])
    assert not list(tmp_path.iterdir())


def test_a_tensor_with_two_names_is_written_for_both(tmp_path):
    net = build(**PLAIN["build"])
    net.stage3[0].bn3.weight = net.stage3[0].branch2[1].weight
    torch.nn.init.uniform_(net.stage3[0].bn3.weight)
    save(net, tmp_path / "net", [PLAIN])
    for name, tensor in net.state_dict().items():
        assert torch.equal(load(tmp_path / "net").state_dict()[name], tensor)
