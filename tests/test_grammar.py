import inspect
from typing import get_args

import pytest
from studies import ROOT, TINY, make

from reducenet import blocks, chain, distill, net, train
from reducenet.names import READS
from reducenet.rivals import supernet
from reducenet.study.grammar import StudyError, read
from reducenet.study.vocabulary import LOSS_READS, VOCABULARY


def test_the_words_are_the_functions():
    """Same moves, same parameters, same defaults in the study file and in Python; what a run adds is listed here."""
    by_the_run = {"net", "data", "num_classes", "in_channels", "seed", "device"}
    words = {*chain.BUILDS, *chain.MOVES, *chain.SEARCHES, *chain.TUNES} - {"resize"}
    assert set(VOCABULARY) == words | {"fit", "best_of"}
    for name in words:
        theirs = {p.name: p.default for p in inspect.signature(chain.function(name)).parameters.values() if p.name not in by_the_run}
        ours = VOCABULARY[name].model_fields
        assert set(ours) == set(theirs), name
        for key, field in ours.items():
            assert field.is_required() == (theirs[key] is inspect.Parameter.empty), (name, key)
            assert field.is_required() or field.default == theirs[key], (name, key)
    fit = inspect.signature(train.fit).parameters
    for key in ("lr", "momentum", "weight_decay", "batch", "schedule"):
        assert VOCABULARY["fit"].model_fields[key].default == fit[key].default


def test_every_block_and_loss_of_the_words_exists_and_reads_what_it_says():
    assert set(blocks.BLOCKS) == set(READS) == set(get_args(VOCABULARY["build"].model_fields["block"].annotation))
    assert set(LOSS_READS) == set(get_args(VOCABULARY["fit"].model_fields["loss"].annotation))
    teacher = net.build("plain", width=4)
    for loss, reads in LOSS_READS.items():
        given = {key: field.default for key, field in VOCABULARY["fit"].model_fields.items()} | {"loss": loss}
        seen = Reading(given)
        chain.objective(seen, teacher if "teacher" in reads else None)
        assert seen.read - {"loss", "lam_weight"} == set(reads) - {"teacher"}, loss


def test_the_losses_have_the_defaults_of_their_functions():
    functions = {"smoothed": distill.smoothed, "kd": distill.soft_labels, "features": distill.feature_alignment, "hints": distill.hints,
                 "attention": distill.attention, "sandwich": supernet.sandwich, "netaug": supernet.netaug}  # fmt: skip
    called = {"reduction": "kd_reduction", "count": "subnets"}
    for loss, function in functions.items():
        fit = VOCABULARY["fit"](epochs=1, loss=loss, **({"teacher": "t"} if "teacher" in LOSS_READS[loss] else {}))
        for name, parameter in inspect.signature(function).parameters.items():
            if name not in ("teacher", "seed"):
                assert getattr(fit, called.get(name, name)) == parameter.default, (loss, name)


class Reading(dict):
    """A dict that remembers which keys were read."""

    def __init__(self, given):
        super().__init__(given)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


def test_chains_are_whole_and_written_out(tmp_path):
    study, chains = read(make(tmp_path))
    assert [next(iter(move)) for move in chains["lora"]] == ["build", "fit", "drop_branch", "freeze", "attach", "fit", "fold"]
    assert chains["teacher"][0] == {"build": {"block": "scaler", "depth": 8, "width": 4, "expansion": 2, "scaler": 1.0, "lam": 0.0,
                                              "post_relu": True, "stem_stride": 1}}  # fmt: skip
    assert chains["lora"][:2] == chains["teacher"]
    assert chains["lora"][3] == {"freeze": {"parts": ["all"]}}
    assert chains["long"][1]["fit"]["epochs"] is None
    assert study.seeds == 2


@pytest.mark.parametrize("file", sorted((ROOT / "ablations").glob("*.toml")), ids=lambda file: file.stem)
def test_the_projects_own_studies_are_valid(file):
    read(file)


MISTAKES = [
    ("seeds = 2", "seedz = 2", "unknown key 'seedz' (did you mean 'seeds'?); known: title, question"),
    ("seeds = 2", 'seeds = "2"', "seeds: Input should be a valid integer, not '2'"),
    ("seeds = 2", "seeds = 0", "seeds: Input should be greater than or equal to 1, not 0"),
    ('title = "tiny"', "", "title: is missing"),
    ('baseline = "plain"', 'baseline = "plane"', "compare.baseline: unknown arm 'plane' (did you mean 'plain'?)"),
    ('baseline = "plain"', 'baseline = "plain"\nmargins = 1', "unknown key 'margins' (did you mean 'margin'?); known: baseline, margin"),
    ('after = "teacher"', 'after = "techer"', "arms.drop.after: unknown arm 'techer' (did you mean 'teacher'?)"),
    ('after = "teacher"', 'after = "drop"', "arms.drop.after: goes in a circle: drop -> drop"),
    ('"drop_branch"]', '"drop_brunch"]', "chain[0]: unknown move 'drop_brunch' (did you mean 'drop_branch'?); known: build, vanillanet"),
    ('"drop_branch"]', "{ drop_branch = 3 }]", "arms.drop.chain[0].drop_branch: takes no parameters"),
    ('"drop_branch"]', "{ fold = {}, fuse = {} }]", "arms.drop.chain[0]: a move is a name or a table with one name"),
    ('"drop_branch"]', '{ build = "plain" }]', "arms.drop.chain: a chain has one build or vanillanet or best_of, at its start"),
    ("{ expansion = 2 } }, {", "{ expnsion = 2 } }, {", "arms.lora.chain[2].attach: unknown key 'expnsion' (did you mean 'expansion'?)"),
    ("{ expansion = 2 } }, {", "{ expansion = 2.5 } }, {", "arms.lora.chain[2].attach: expansion: Input should be a valid integer"),
    ('loss = "kd", teacher = "teacher"', 'loss = "kd"', 'a teacher goes with the losses that have one, "kd", "features"'),
    ('teacher = "teacher" }', 'teacher = "tutor" }', "arms.lora: fit: unknown arm 'tutor'; known: teacher, plain"),
    ('teacher = "teacher" }', 'teacher = "lora" }', "needs itself: lora -> lora"),
    ('cost_of = "lora"', 'cost_of = "lora", epochs = 2', "a fit needs either epochs or cost_of"),
    ('{ build = "plain" }, "fit"]', '{ build = { block = "plane" } }, "fit"]', "chain[0].build: block: Input should be 'scaler'"),
    ('{ build = "plain" }, "fit"]', '{ build = { depth = 9 } }, "fit"]', "depth must be 6n + 2"),
    ('freeze = ["all"]', 'freeze = ["al"]', "chain[1].freeze: parts: unknown part 'al'; known: all, classifier"),
    ("lr = 0.05", "lr = inf", "lr: Input should be a finite number"),
    ('{ build = "plain" }, "fit"]', '{ build = { block = "plain", expansion = 3 } }, "fit"]', "nothing reads 'expansion' here"),
    ('{ build = "plain" }, "fit"]', '{ build = "plain" }, { fit = { temperature = 2.0 } }]', "nothing reads 'temperature' here"),
    ('{ build = "plain" }, "fit"]', '{ build = "plain" }, { fit = { lam_until = 0.5 } }]', "chain[1].fit: nothing reads 'lam_until' here"),
    ('{ build = "plain" }, "fit"]', '{ build = { scaler = 2.0 } }, "fit"]', "scaler: Input should be less than or equal to 1"),
    ('freeze = ["all"]', "freeze = []", "chain[1].freeze: parts: nothing is named; known: all, classifier"),
    ("{ expansion = 2 } }, {", "{ expansion = 2, rank = 2 } }, {", "attach: the width is given by expansion or by rank, not by both"),
    ("{ expansion = 2 } }, {", '{ bn = true, space = "weight" } }, {', "chain[2].attach: in weight space nothing stands inside the branch"),
    ('"drop_branch"]', '"drop_branch", { narrow = true }]', "chain[1].narrow: expansion: Input should be a valid integer, not True"),
    ('"drop_branch"]', '"drop_branch", { prune = { macs = -5 } }]', "chain[1].prune: macs: Input should be greater than"),
    ('{ build = "plain" }, "fit"]', '{ vanillanet = { depth = 4 } }, "fit"]', "depth: Input should be greater than or equal to 5, not 4"),
    ('{ build = "plain" }, "fit"]', '{ build = "plain" }, { fit = { loss = ["kd"] } }]', "loss: Input should be 'ce', 'smoothed'"),
    ('{ build = "plain" }, "fit"]', '{ best_of = { arm = "plane", tickets = 2 } }]', "arms.plain: best_of: unknown arm 'plane'"),
    ('{ build = "plain" }, "fit"]', '{ best_of = { arm = "plain", tickets = 2 } }]', "needs itself: plain -> plain"),
    ('"drop_branch"]', '"drop_branch", { ridge = "tutor" }]', "arms.drop: ridge: unknown arm 'tutor'"),
    ('"drop_branch"]', '"drop_branch", "ridge"]', "arms.drop.chain[1].ridge: teacher: is missing"),
    ('"drop_branch"]', '"drop_branch", { search_mask = -1 }]', "keep: Input should be greater than or equal to 0, not -1"),
    ("[arms.drop]", '[arms."drop/x"]', "should match pattern"),
    ('[arms.plain]', '[arms.plain]\nlable = "x"', "unknown key 'lable' (did you mean 'label'?); known: label, after, chain"),
    ('baseline = "plain"', 'baseline = "plain"\nalso = [["lora", "lang"]]', "compare.also: unknown arm 'lang' (did you mean 'long'?)"),
    ("title", "title = = ", "cannot be read as TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[m[1][:30] for m in MISTAKES])
def test_a_mistake_is_one_line_that_names_file_key_and_choices(old, new, message, tmp_path):
    assert old in TINY
    file = make(tmp_path, TINY.replace(old, new, 1))
    with pytest.raises(StudyError) as error:
        read(file)
    text = str(error.value)
    assert text.startswith(str(file))
    assert message in text
    assert "\n" not in text


def test_a_missing_file_names_those_that_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(StudyError, match=r"ablations/quik\.toml: no such study file; there are: .*ablations/quick\.toml"):
        read("ablations/quik.toml")
