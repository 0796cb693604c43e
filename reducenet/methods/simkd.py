"""SimKD's projector, the structural half of "reuse the teacher's classifier"; the other half is the loss `match`."""

from torch import nn

from reducenet.moves.surgery import copied
from reducenet.nets.layers import conv1x1, conv3x3
from reducenet.nets.networks import Network
from reducenet.nets.seeding import initialise
from reducenet.words import MoveError, Positive, move


@move
def project(net: nn.Module, factor: Positive = 2, *, seed: int = 0) -> nn.Module:
    """`project(net).features(x) == projector(maps).mean`: a fresh projector in the neck, between the last stage and the pooling.

    conv1(C -> C // factor)-BN-ReLU-conv3-BN-ReLU-conv1(-> C)-BN-ReLU for C channels of the last stage, drawn from (seed, "project",
    name). It stays when the student is deployed, so `parameters` and `macs` count it. It ends in a ReLU and gives no negative map,
    as the teacher's last block by default. Raises `MoveError` where the neck is taken, or for a factor above C.
    Source: Chen et al. 2022, SimKD, section 3.2.
    """
    if not isinstance(net, Network) or not isinstance(net.classifier, nn.Linear):
        raise MoveError(f"project: {type(net).__name__} has no neck before a linear classifier; nets of `build` do")
    if any(True for _ in net.neck.children()):
        raise MoveError("project: neck has a projector already; one is all SimKD takes")
    planes = net.classifier.in_features
    if factor > planes:
        raise MoveError(f"project: factor must be at most the {planes} channels of the last stage, not {factor}")
    net = copied(net)
    narrow = planes // factor
    net.neck = nn.Sequential(
        conv1x1(planes, narrow), nn.BatchNorm2d(narrow), nn.ReLU(),
        conv3x3(narrow, narrow), nn.BatchNorm2d(narrow), nn.ReLU(),
        conv1x1(narrow, planes), nn.BatchNorm2d(planes), nn.ReLU())  # fmt: skip
    initialise(net.neck, seed, "project")
    net.neck.to(net.classifier.weight).train(net.training)
    return net
