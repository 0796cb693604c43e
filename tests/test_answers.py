"""A teacher answers once: bitwise what the network says, kept for whoever asks the same batch, and never cheaper in the ledger."""

import copy

import pytest
import torch
from networks import small

from reducenet import drop_branch, fit, load_data
from reducenet.learn.answers import Answers
from reducenet.play.checkpoint import digest
from reducenet.store import Store


@pytest.fixture
def net(randomised):
    return randomised(small("scaler")).float().eval()


@pytest.fixture
def asked(net, monkeypatch):
    """How often the network itself was run."""
    times = []
    net.register_forward_hook(lambda *_: times.append(1))
    return times


def batch(seed=0, count=5):
    return torch.randn(count, 1, 13, 11, generator=torch.Generator().manual_seed(seed))


def test_an_answer_is_what_the_network_says_and_is_given_again(net, asked, tmp_path):
    answers, x = Answers(net, tmp_path), batch()
    said = copy.deepcopy(net)(x)
    asked.clear()
    assert torch.equal(answers(x), said)
    assert torch.equal(answers(x.clone()), said)
    assert len(asked) == 1
    assert not answers(x).requires_grad


def test_any_other_batch_is_another_question(net, asked, tmp_path):
    answers, x = Answers(net, tmp_path), batch()
    other = x.clone()
    other[-1, 0, -1, -1] += 1e-6
    for number, question in enumerate((x, other, x[:4], x.flip(0), batch(1)), 1):
        assert torch.equal(answers(question), copy.deepcopy(net)(question))
        assert len(asked) == 2 * number  # once here, once by the copy
    turned = x.expand(5, 3, 13, 11).contiguous(memory_format=torch.channels_last)
    one, two = answers.ask("sum", turned, lambda t: t.sum(1)), answers.ask("sum", turned.contiguous(), lambda t: t.sum(1) + 1)
    assert torch.equal(one + 1, two)  # sums run in another order there


def test_another_process_finds_what_was_kept(net, asked, tmp_path):
    x, y = batch(0), batch(1)
    first, second = Answers(net, tmp_path / "here"), Answers(copy.deepcopy(net), tmp_path / "here")
    said = first(x)
    second(y)
    assert len(asked) == 2
    first.keep()
    assert torch.equal(second(x), said)  # found though it had begun before
    assert torch.equal(Answers(net, tmp_path / "here")(x), said)
    assert len(asked) == 2
    assert torch.equal(Answers(net, tmp_path / "elsewhere")(x), said)
    assert len(asked) == 3


def test_what_is_damaged_or_swept_away_is_asked_again(net, asked, tmp_path):
    x, folder = batch(), tmp_path / "store" / "_answers" / "teacher"
    first = Answers(net, folder)
    said = first(x)
    first.keep()
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(Answers(net, folder)(x), said)
    Store(tmp_path / "store").forget_answers({"teacher", "nobody"})
    assert not folder.exists()
    assert torch.equal(Answers(net, folder)(x), said)
    assert len(asked) == 3


def test_what_is_large_is_not_kept(net, tmp_path):
    answers, x, times = Answers(net, tmp_path), batch(), []
    for _ in range(2):
        answers.ask("map", x, lambda x: times.append(1) or x.repeat(1, 2, 1, 1))  # 1,144 bytes an image
    answers.keep()
    assert len(times) == 2
    assert not list(tmp_path.iterdir())


def test_a_hundred_answers_are_written_without_being_asked_to(net, tmp_path):
    answers = Answers(net, tmp_path)
    for seed in range(100):
        answers(batch(seed, 1))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("loss", ["kd", "features", "hints"])
def test_training_with_answers_is_bitwise_training_with_the_teacher(loss, tmp_path):
    data = load_data("synthetic").subset(256)
    teacher = small("scaler", num_classes=4).float()
    how = dict(epochs=2, lr=0.05, loss=loss, device="cpu", progress=False)
    alone = fit(drop_branch(teacher), data, teacher=teacher, **how).net
    for _ in range(2):  # asked, then found
        answers = Answers(copy.deepcopy(teacher), tmp_path)
        assert digest(fit(drop_branch(teacher), data, teacher=answers, **how).net) == digest(alone)
        answers.keep()
