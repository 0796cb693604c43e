import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from reducenet.activation import slide
from reducenet.chain import TUNES, perform
from reducenet.checkpoint import CheckpointError, chain_of, load, save

BUILD = {"build": dict(block="scaler", width=4, expansion=2, num_classes=4)}
PLAIN, WIDE = ({"build": dict(BUILD["build"], block=block)} for block in ("plain", "lambda"))
INVERTED = {"build": dict(BUILD["build"], block="inverted", post_relu=False)}
ALL, DROP, LINEAR, FUSE = {"freeze": {"parts": ["all"]}}, {"drop_branch": {}}, {"linearise": {}}, {"fuse": {}}
SLIDE = {"fit": {"epochs": 1, "lam": "linear"}}
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
    [{"build": dict(BUILD["build"], block="lambda", lam=1.0)}, FUSE],
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
    [{"build": dict(BUILD["build"], block="repvgg")}, FUSE],
    [{"vanillanet": {"width": 4, "num_classes": 4}}, SLIDE, FUSE],
]


def play(chain):
    net = None
    for move in chain:
        if "fit" in move:
            if "lam" in move["fit"]:
                slide()(net, 1.0)
        elif next(iter(move)) not in TUNES:
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
        ([], "the chain is empty"),
        (["drop_branch"], "a chain starts with build or vanillanet, not with drop_branch"),
        ([BUILD], r"stage1\.0\.branch1\.0\.weight is missing"),
        ([BUILD, "drop_branch", "attach"], r"stage1\.0\.branch2\.0\.parametrizations\.weight\.original is missing"),
        (
            [{"build": dict(BUILD["build"], width=8)}, "drop_branch"],
            r"stem\.0\.weight is of shape \(4, 1, 3, 3\), by the moves of \(8, 1, 3, 3\)",
        ),
        ([BUILD, "shrink"], "unknown move 'shrink'"),
        ([BUILD, {"freeze": {}, "fold": {}}], "a move is a name or a dict with one name"),
        ([BUILD, {"drop_branch": 3}], "drop_branch takes no parameters"),
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


def test_equal_networks_are_equal_files(tmp_path):
    """In another process too: safetensors writes several metadata keys in any order."""
    code = (
        "from reducenet import build, save; import sys; "
        "save(build('plain', width=4), sys.argv[1], [{'build': {'block': 'plain', 'width': 4}}])"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
