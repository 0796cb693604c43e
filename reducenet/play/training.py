"""What a run trains, kept in the store: the network, its curve, what was decided, what it cost. Alone, or several replicates together."""

import contextlib
import copy
import csv
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from reducenet.data.tensors import Data, Split, about
from reducenet.learn import evaluate, measure
from reducenet.learn.answers import Answers
from reducenet.learn.train import named_loss
from reducenet.play import checkpoint
from reducenet.play.machine import environment
from reducenet.play.play import Bench, Played, play
from reducenet.play.together import Start, play_together
from reducenet.store import Store, write_result
from reducenet.words import find

PROBE = 500  # validation images on which two networks are compared


class Member(NamedTuple):
    """One replicate: its seed, the key of what it becomes, and the keys of what it goes on from, learns from and is paid by."""

    seed: int
    trained: str
    after: str = ""
    teacher: str = ""
    paid_by: tuple = ()
    tickets: tuple = ()


def train(kept: Store, images: Data, moves: list[dict], member: Member, together: list[Member], *, nth_fit: int, device: str) -> None:
    """Play `moves` and keep what `member` becomes; those of `together` that can be trained by now come with it.

    The places of others are taken by the member once more: what it becomes depends on how many there are, not on who.
    """
    if not together:
        with _started(kept, images, member, device) as start:
            played = play(moves, **start._asdict(), nth_fit=nth_fit)
        _keep(kept, images, member, moves, nth_fit, played, device)
        return
    with_it = [other for other in together if other != member and _is_ready(kept, other)]
    filled = [member, *with_it, *[member] * (len(together) - 1 - len(with_it))]
    with contextlib.ExitStack() as stack:
        starts = [stack.enter_context(_started(kept, images, one, device)) for one in filled]
        played, apart = play_together(moves, starts, nth_fit=nth_fit)
    said = {"apart": apart} if apart else {"together": sorted(other.seed for other in together)}
    for one, own in zip([member, *with_it], played, strict=False):  # what filled a place is thrown away
        _keep(kept, images, one, moves, nth_fit, own, device, **said)


def network(kept: Store, key: str):
    return checkpoint.load(kept.entry(key) / "net.safetensors")


def probe(images: Data) -> Split:
    """The images on which an exact move proves itself."""
    return Split(images.val.images[:PROBE], images.val.labels[:PROBE])


def epoch_macs(kept: Store, net, fit: dict, images: Data, seed: int, teacher: str) -> int:
    """Multiply-adds of one epoch of this fit, the teacher's included whether it was asked or remembered."""
    word = find("loss", fit["loss"])
    own = {p.name: network(kept, teacher) if p.names_an_arm else fit[p.name] for p in word.parameters}
    objective, steps = named_loss(word.name, seed, **own), word.options.get("steps", 1)
    per_image = measure.training_macs(net, tuple(images.train.images.shape[1:]), objective, steps=steps)
    return per_image * len(images.train.labels)


def _is_ready(kept: Store, member: Member) -> bool:
    """Whether it is not trained yet, and all that it needs is."""
    needs = [key for key in (member.after, member.teacher, *member.paid_by) if key]
    found = [kept.result(key) for key in needs]
    return kept.result(member.trained) is None and all(result and result["status"] == "ok" for result in found)


@contextlib.contextmanager
def _started(kept: Store, images: Data, member: Member, device: str) -> Iterator[Start]:
    """What playing it starts from; what its teacher was asked meanwhile is kept for others."""
    drawn = [kept.result(run) for run in member.tickets]
    replicates = tuple(
        (run["val_accuracy"], run["sentence"], functools.partial(network, kept, run["key"])) for run in drawn if run["status"] == "ok"
    )
    teacher = network(kept, member.teacher) if member.teacher else None
    answers = Answers(copy.deepcopy(teacher), kept.answers(member.teacher)) if member.teacher else None
    bench = Bench(
        images,
        networks={"teacher": teacher} if teacher else {},
        replicates=replicates,
        epochs_for=lambda net, fit: _affordable(kept, member, net, fit, images),
        asked=lambda net: answers,
        probe=probe(images),
        device=device,
    )
    net, before = (network(kept, member.after), kept.result(member.after)["sentence"]) if member.after else (None, [])
    try:
        yield Start(bench, net, before, member.seed)
    finally:
        if answers:
            answers.keep()


def _keep(kept: Store, images: Data, member: Member, moves: list[dict], nth_fit: int, played: Played, device: str, **said) -> None:
    """Publish the entry of what was trained."""
    folder = kept.begin(member.trained)
    result = {"kind": "trained", "key": member.trained, "status": "diverged" if played.diverged else "ok", "seed": member.seed,
              "nth_fit": nth_fit, "moves": moves, "sentence": played.sentence, "after": member.after, "teacher": member.teacher,
              "move_error": played.move_error, "data": about(images), **said,
              "cost": {"epochs": played.epochs, "searched_macs": played.searched_macs, "train_seconds": played.seconds},
              "network": None, "val_accuracy": None, "environment": environment(device)}  # fmt: skip
    if not played.diverged:
        net = played.net.eval()
        checkpoint.save(net, folder / "net.safetensors", played.sentence, member.seed)
        result |= {"network": checkpoint.digest(net), "val_accuracy": evaluate.accuracy(net, images, images.val)}
    if played.rows:
        with open(folder / "curves.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, played.rows[0])
            writer.writeheader()
            writer.writerows(played.rows)
    write_result(folder, result)
    kept.publish(member.trained, folder)


def _affordable(kept: Store, member: Member, net, fit: dict, images: Data) -> int:
    """The epochs that the whole cost of the runs that pay would buy, at least 1."""
    budget = sum(kept.result(run)["cost"]["train_macs"] for run in member.paid_by)
    return max(1, round(budget / epoch_macs(kept, net, fit, images, member.seed, member.teacher)))


def curve(kept: Store, key: str) -> list[dict]:
    """One row an epoch, as recorded."""
    file: Path = kept.entry(key) / "curves.csv"
    if not file.is_file():
        return []
    with open(file, newline="") as rows:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(rows)]
