"""What a student learns from: labels, a teacher's soft labels, a teacher's features.

A loss for `fit` is a function `loss(net, x, y) -> (loss, logits)`. A teacher is copied, set to eval and never gets a gradient.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`CE(net(x), y)`, mean over the batch."""
    logits = net(x)
    return F.cross_entropy(logits, y), logits


def soft_labels_term(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))`, summed over classes, mean over the batch ("batchmean").

    The mean over every element instead, torch's default, would be smaller by the number of classes. Zero, with zero gradient, where
    the logits [N, classes] agree. Source: Hinton, Vinyals, Dean 2015. Explained in notebook 04.
    """
    p = F.log_softmax(teacher / temperature, dim=1)
    q = F.log_softmax(student / temperature, dim=1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True) * temperature**2


def soft_labels(teacher: nn.Module, kd_weight: float = 0.9, temperature: float = 4.0):
    """The loss `(1 - w) CE(z, y) + w T^2 KL(teacher || student)`, w = kd_weight in [0, 1], temperature > 0."""
    if not 0 <= kd_weight <= 1 or temperature <= 0:
        raise ValueError(f"kd_weight must be in [0, 1] and temperature above 0, not {kd_weight} and {temperature}")
    teacher = _fixed(teacher)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(x)
        with torch.no_grad():
            target = teacher.to(x.device)(x)
        hard, soft = F.cross_entropy(logits, y), soft_labels_term(logits, target, temperature)
        return (1 - kd_weight) * hard + kd_weight * soft, logits

    return loss


def feature_alignment(teacher: nn.Module, feature_weight: float = 1.0):
    """The loss `CE(z, y) + w MSE(features(student), features(teacher))` on the pooled features that the classifier reads.

    At zero distance, a student with the teacher's classifier gives the teacher's logits exactly.
    Source: the article, "ReduceNet's training", last paragraph; FitNets; SimKD.
    """
    teacher = _fixed(teacher)

    def loss(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        features = net.features(x)
        logits = net.classifier(features)
        with torch.no_grad():
            target = teacher.to(x.device).features(x)
        return F.cross_entropy(logits, y) + feature_weight * F.mse_loss(features, target), logits

    return loss


def _fixed(teacher: nn.Module) -> nn.Module:
    return copy.deepcopy(teacher).eval().requires_grad_(False)
