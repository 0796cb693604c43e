import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reducenet.nets.activation import SLIDES, LambdaReLU, slide


def test_ends_are_relu_and_identity_bitwise():
    x = torch.randn(1000)
    assert torch.equal(LambdaReLU(0.0)(x), F.relu(x))
    assert torch.equal(LambdaReLU(1.0)(x), x)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_formula_and_untouched_input(lam):
    x = torch.randn(1000, dtype=torch.float64)
    before = x.clone()
    act = LambdaReLU(lam).double()
    lam = act.lam.item()  # 0.3, rounded to the float32 that it is stored as
    torch.testing.assert_close(act(x), lam * x + (1 - lam) * F.relu(x), rtol=1e-12, atol=0)
    assert torch.equal(x, before)


def test_the_first_code_of_the_article_is_a_relu_at_every_scaler():
    def aliased(x, scaler):  # the mistake: relu_ overwrites the x of the second term
        return scaler * F.relu(x, inplace=True) + (1 - scaler) * x

    x = torch.randn(1000)
    for scaler in (0.0, 0.5, 1.0):
        assert torch.equal(aliased(x.clone(), scaler), F.relu(x))
    assert not torch.equal(LambdaReLU(1.0)(x), F.relu(x))


def test_gradient_is_lam_below_zero():
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    LambdaReLU(0.3)(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.3, 1.0]))


def test_every_schedule_goes_from_0_to_1():
    for name, schedule in SLIDES.items():
        values = [schedule(i / 100) for i in range(101)]
        assert values[0] == 0, name
        assert values[-1] == 1, name
        assert values == sorted(values), name


def test_slide_moves_every_activation_and_arrives_early():
    net = nn.Sequential(LambdaReLU(), nn.Sequential(LambdaReLU()))
    hook = slide("linear", until=0.5)
    for progress, lam in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0)):
        hook(net, progress)
        assert [m.lam.item() for m in (net[0], net[1][0])] == [lam, lam]


def test_slide_refuses_nonsense():
    with pytest.raises(ValueError, match="known: linear, half-cosine, hard"):
        slide("lineal")
    with pytest.raises(ValueError, match="until|end within"):
        slide("linear", until=0.0)


def test_a_slide_needs_something_to_move():
    with pytest.raises(ValueError, match="no LambdaReLU whose lam could move"):
        slide()(torch.nn.ReLU(), 0.5)
