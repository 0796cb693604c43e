import pytest
from studies import ROOT, TINY, make

from reducenet.study.read import StudyError, read

COMPARE = '[compare]\nbaseline = "plain"\n'


def test_chains_are_whole_and_written_out(tmp_path):
    study = read(make(tmp_path))
    assert [next(iter(move)) for move in study.chains["lora"]] == ["build", "fit", "drop_branch", "freeze", "attach", "fit", "fold"]
    assert study.chains["teacher"][0] == {"build": {"block": "scaler", "depth": 8, "width": 4, "stem_stride": 1, "expansion": 2,
                                                    "scaler": 1.0, "post_relu": True}}  # fmt: skip
    assert study.chains["lora"][:2] == study.chains["teacher"]
    assert study.chains["lora"][3] == {"freeze": {"parts": ["all"]}}
    assert study.chains["long"][1]["fit"]["epochs"] is None
    assert study.seeds == 2
    assert list(study.replicates) == [0, 1]
    assert study.label("teacher") == "the teacher"
    assert study.label("drop") == "drop"


def test_what_a_study_does_not_say(tmp_path):
    short = 'title = "t"\ndata = "synthetic"\n[compare]\nbaseline = "a"\n[arms.a]\nchain = ["build"]\n'
    study = read(make(tmp_path, short))
    assert (study.seeds, study.first_seed, study.threads, study.device, study.question, study.notes) == (5, 0, 1, "auto", "", [])
    assert (study.compare.margin, study.compare.on, study.compare.also, study.defaults) == (0.5, "test", [], {"build": {}, "fit": {}})


def test_replicates_start_where_the_study_says(tmp_path):
    assert list(read(make(tmp_path, TINY.replace("seeds = 2", "seeds = 2\nfirst_seed = 7"))).replicates) == [7, 8]


def test_a_studys_defaults_stand_where_a_chain_says_nothing_and_are_passed_over_where_nothing_reads_them(tmp_path):
    text = TINY.replace("build = { width = 4 }", "build = { width = 4, expansion = 3, scaler = 0.5 }")
    text = text.replace("lr = 0.05 }", "lr = 0.05, temperature = 2.0 }")
    chains = read(make(tmp_path, text)).chains
    assert chains["teacher"][0]["build"]["expansion"] == 2
    assert chains["teacher"][0]["build"]["scaler"] == 0.5
    assert not {"expansion", "scaler"} & set(chains["plain"][0]["build"])
    assert chains["lora"][5]["fit"]["temperature"] == 2.0
    assert "temperature" not in chains["plain"][1]["fit"]


def test_other_defaults_of_build_go_before_the_studys_own(tmp_path):
    chains = read(make(tmp_path), build={"width": 8, "stem_stride": 2}).chains
    assert chains["plain"][0]["build"]["width"] == 8
    assert chains["plain"][0]["build"]["stem_stride"] == 2
    assert read(make(tmp_path), build={}).chains["plain"][0]["build"]["width"] == 4
    beside = read(make(tmp_path), build={"stem_stride": 2}).chains["plain"][0]["build"]
    assert (beside["width"], beside["stem_stride"]) == (4, 2)


@pytest.mark.parametrize("file", sorted((ROOT / "ablations").glob("*.toml")), ids=lambda file: file.stem)
def test_the_projects_own_studies_are_valid(file):
    read(file)


PLAIN = '{ build = "plain" }, "fit"]'
MISTAKES = [
    ("seeds = 2", "seedz = 2", "unknown key 'seedz' (did you mean 'seeds'?); known: title, question"),
    ("seeds = 2", 'seeds = "2"', "seeds must be a whole number, not '2'"),
    ("seeds = 2", "seeds = 0", "seeds must be at least 1, not 0"),
    ("seeds = 2", "seeds = 2\nfirst_seed = -1", "first_seed must be at least 0, not -1"),
    ("seeds = 2", 'seeds = 2\ndevice = "tpu"', "unknown device 'tpu'; known: auto, cpu, cuda"),
    ("seeds = 2", "seeds = 2\nthreads = 0", "threads must be at least 1, not 0"),
    ('title = "tiny"', "", "title: is missing"),
    ('data = "synthetic"', "", "data: is missing"),
    ('baseline = "plain"', 'baseline = "plane"', "compare.baseline: unknown arm 'plane' (did you mean 'plain'?)"),
    ('baseline = "plain"', 'baseline = "plain"\nmargins = 1', "unknown key 'margins' (did you mean 'margin'?); known: baseline, margin"),
    ('baseline = "plain"', 'baseline = "plain"\nmargin = 0', "compare.margin must be above 0, not 0"),
    ('baseline = "plain"', 'baseline = "plain"\non = "train"', "unknown compare.on 'train'; known: test, val"),
    ('after = "teacher"', 'after = "techer"', "arms.drop.after: unknown arm 'techer' (did you mean 'teacher'?)"),
    ('after = "teacher"', 'after = "drop"', "arms.drop.after: goes in a circle: drop -> drop"),
    ('"drop_branch"]', '"drop_brunch"]', "chain[0]: unknown move 'drop_brunch' (did you mean 'drop_branch'?); known: build, vanillanet"),
    ('"drop_branch"]', "{ drop_branch = 3 }]", "arms.drop.chain[0]: drop_branch: takes no parameters, not 3"),
    ('"drop_branch"]', "{ drop_branch = { deep = 3 } }]", "arms.drop.chain[0]: drop_branch: takes no parameters, not 'deep'"),
    ('"drop_branch"]', "{ fold = {}, fuse = {} }]", "arms.drop.chain[0]: a move is a name or a table with one name"),
    ('"drop_branch"]', '{ build = "plain" }]', "arms.drop.chain: a chain has one build or vanillanet or best_of, at its start"),
    ('{ build = "plain" }, "fit"]', '"fit"]', "arms.plain.chain: a chain has one build or vanillanet or best_of, at its start"),
    ("{ expansion = 2 } }, {", "{ expnsion = 2 } }, {", "lora.chain[2]: attach: unknown parameter 'expnsion' (did you mean 'expansion'?)"),
    ("{ expansion = 2 } }, {", "{ expansion = 2.5 } }, {", "arms.lora.chain[2]: attach: expansion must be a whole number, not 2.5"),
    ('loss = "kd", teacher = "teacher"', 'loss = "kd"', "arms.lora.chain[3]: fit: teacher: is missing"),
    ('loss = "kd", teacher = "teacher"', 'teacher = "teacher"', "arms.lora.chain[3]: fit: nothing reads 'teacher' here; leave it out"),
    ('teacher = "teacher" }', 'teacher = "tutor" }', "arms.lora: fit: unknown arm 'tutor'; known: teacher, plain"),
    ('teacher = "teacher" }', 'teacher = "lora" }', "needs itself: lora -> lora"),
    ('cost_of = "lora"', 'cost_of = "lora", epochs = 2', "a fit needs either epochs or cost_of"),
    ('cost_of = "lora"', 'cost_of = "lara"', "arms.long: fit: unknown arm 'lara' (did you mean 'lora'?)"),
    ("epochs = 1, lr", "lr", "arms.teacher.chain[1]: fit: a fit needs either epochs or cost_of"),
    (PLAIN, '{ build = { block = "plane" } }, "fit"]', "chain[0]: build: unknown block 'plane' (did you mean 'plain'?); known: plain"),
    (PLAIN, '{ build = { depth = 9 } }, "fit"]', "chain[0]: build: depth must be 6n + 2 (8, 14, 20, ...), not 9"),
    ('freeze = ["all"]', 'freeze = ["al"]', "chain[1]: freeze: parts: unknown part 'al'; known: all, classifier"),
    ("lr = 0.05", "lr = inf", "lr must be a finite number, not inf"),
    ("lr = 0.05", "lr = -1", "lr must be above 0, not -1"),
    ("lr = 0.05", "learning_rate = 0.05", "fit: unknown parameter 'learning_rate'"),
    ("width = 4", "widht = 4", "build: unknown parameter 'widht' (did you mean 'width'?)"),
    (PLAIN, '{ build = { block = "plain", expansion = 3 } }, "fit"]', "chain[0]: build: nothing reads 'expansion' here"),
    (PLAIN, '{ build = "plain" }, { fit = { temperature = 2.0 } }]', "chain[1]: fit: nothing reads 'temperature' here"),
    (PLAIN, '{ build = "plain" }, { fit = { slide_until = 0.5 } }]', "chain[1]: fit: nothing reads 'slide_until' here"),
    (PLAIN, '{ build = { scaler = 2.0 } }, "fit"]', "chain[0]: build: scaler must be at most 1, not 2.0"),
    ('freeze = ["all"]', "freeze = []", "chain[1]: freeze: parts: nothing is named; known: all, classifier"),
    ("{ expansion = 2 } }, {", "{ expansion = 2, rank = 2 } }, {", "attach: the width is given by expansion or by rank, not by both"),
    ("{ expansion = 2 } }, {", '{ bn = true, space = "weight" } }, {', "chain[2]: attach: in weight space nothing stands inside"),
    ('"drop_branch"]', '"drop_branch", { narrow = true }]', "chain[1]: narrow: expansion must be a whole number or a list, not True"),
    ('"drop_branch"]', '"drop_branch", { prune = { macs = -5 } }]', "chain[1]: prune: macs must be at least 1, not -5"),
    (PLAIN, '{ vanillanet = { depth = 4 } }, "fit"]', "chain[0]: vanillanet: depth must be at least 5, not 4"),
    (PLAIN, '{ build = "plain" }, { fit = { loss = ["kd"] } }]', "chain[1]: fit: loss must be a text, not ['kd']"),
    (PLAIN, '{ build = "plain" }, { fit = { loss = "hint" } }]', "fit: unknown loss 'hint' (did you mean 'hints'?); known: ce"),
    (PLAIN, '{ build = "plain" }, { fit = { schedule = "step" } }]', "chain[1]: fit: unknown schedule 'step'; known: one-cycle, cosine"),
    (PLAIN, '{ best_of = { arm = "plane", tickets = 2 } }]', "arms.plain: best_of: unknown arm 'plane'"),
    (PLAIN, '{ best_of = { arm = "plain", tickets = 2 } }]', "needs itself: plain -> plain"),
    (PLAIN, '{ best_of = { arm = "teacher", tickets = 1 } }]', "chain[0]: best_of: tickets must be at least 2, not 1"),
    ('"drop_branch"]', '"drop_branch", { ridge = "tutor" }]', "arms.drop: ridge: unknown arm 'tutor'"),
    ('"drop_branch"]', '"drop_branch", "ridge"]', "arms.drop.chain[1]: ridge: teacher: is missing"),
    ('"drop_branch"]', '"drop_branch", { search_mask = -1 }]', "chain[1]: search_mask: keep must be at least 0, not -1"),
    ("[arms.drop]", '[arms."drop/x"]', "should match pattern"),
    ("[arms.plain]", '[arms.plain]\nlable = "x"', "'lable' (did you mean 'label'?); known: label, after, chain, tune (in arms.plain"),
    ('baseline = "plain"', 'baseline = "plain"\nalso = [["lora", "lang"]]', "compare.also: unknown arm 'lang' (did you mean 'long'?)"),
    ('baseline = "plain"', 'baseline = "plain"\nalso = [["lora"]]', "compare.also.0: List should have at least 2 items"),
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
    assert "Input should" not in text


CIRCLE = """
[arms.a]
chain = [{ build = "plain" }, { fit = { loss = "kd", teacher = "b" } }]

[arms.b]
chain = [{ build = "plain" }, { fit = { cost_of = "a" } }]
"""


def test_arms_that_need_each_other_are_a_circle_however_they_need(tmp_path):
    with pytest.raises(StudyError, match="arms.a: needs itself: a -> b -> a"):
        read(make(tmp_path, TINY + CIRCLE))
    around = TINY.replace('[arms.drop]\nafter = "teacher"', '[arms.drop]\nafter = "lora"')
    around = around.replace('[arms.lora]\nafter = "teacher"', '[arms.lora]\nafter = "drop"')
    with pytest.raises(StudyError, match="arms.drop.after: goes in a circle: drop -> lora -> drop"):
        read(make(tmp_path, around))


def test_a_study_has_an_arm(tmp_path):
    file = make(tmp_path, TINY.split("[arms.teacher]")[0] + "[arms]\n")
    with pytest.raises(StudyError, match="arms: Dictionary should have at least 1 item after validation, not 0$"):
        read(file)


def test_a_missing_file_names_those_that_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    said = r"^ablations/quik\.toml: no such study file; unknown study 'quik' \(did you mean 'quick'\?\); known: .*expansion, .*methods, "
    with pytest.raises(StudyError, match=said):
        read("ablations/quik.toml")
    monkeypatch.chdir(ROOT / "tests")
    with pytest.raises(StudyError, match="no such study file; unknown study 'quik'; known: none$"):
        read("ablations/quik.toml")


def test_what_is_no_text_is_one_line(tmp_path):
    file = make(tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match=r"tiny\.toml: cannot be read as TOML"):
        read(file)
    with pytest.raises(StudyError, match="cannot be read as TOML"):
        read(tmp_path)  # a folder


# ---- a study after another


def test_a_study_that_extends_another_says_what_is_different(tmp_path):
    base = read(make(tmp_path))
    more = 'extends = "tiny"\ntitle = "more"\nseeds = 4\nfit = { lr = 0.1 }\n[arms.wide]\nchain = [{ build = { width = 6 } }, "fit"]\n'
    study = read(make(tmp_path, more, "more"))
    assert (study.title, study.seeds, study.data, study.compare) == ("more", 4, base.data, base.compare)
    assert list(study.arms) == [*base.arms, "wide"]
    assert study.chains["plain"][-1]["fit"] == base.chains["plain"][-1]["fit"] | {"lr": 0.1}
    assert study.chains["wide"][-1]["fit"]["epochs"] == 1
    again = read(make(tmp_path, 'extends = "more"\ntitle = "again"\n[arms.wide]\nchain = [{ build = "plain" }, "fit"]\n', "again"))
    assert again.chains["wide"] == again.chains["plain"]
    assert read(tmp_path / "ablations" / "tiny.toml") == base


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('"tyni"', r"extends: no study 'tyni' beside it; there are: tiny$"),
        ("3", "extends: no study 3 beside it"),
        ('["tiny"]', r"extends: no study \['tiny'\] beside it"),
        ('"../tiny"', "extends: no study '../tiny' beside it"),
        ('"more"', "extends: goes in a circle: more -> more$"),
    ],
)
def test_a_study_that_extends_nothing_is_one_line(said, message, tmp_path):
    make(tmp_path)
    with pytest.raises(StudyError, match=f"more.toml: {message}"):
        read(make(tmp_path, f'extends = {said}\ntitle = "more"\n', "more"))


def test_a_study_takes_only_some_arms_of_another(tmp_path):
    base = read(make(tmp_path))
    study = read(make(tmp_path, 'extends = "tiny"\nonly = ["drop", "teacher", "plain"]\ntitle = "more"\n' + COMPARE, "more"))
    assert list(study.arms) == [arm for arm in base.arms if arm in ("drop", "teacher", "plain")]  # in the order of the study that has them
    assert all(study.chains[arm] == base.chains[arm] for arm in study.arms)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('extends = "tiny"\nonly = ["plian"]', r"only: unknown arm 'plian'"),
        ('extends = "tiny"\nonly = "plain"', r"only: must be a list of arms, not 'plain'$"),
        ('extends = "tiny"\nonly = [3]', r"only: unknown arm '3'"),
        ('extends = "tiny"\nonly = ["teacher"]', r"compare.baseline: unknown arm 'plain'"),
        ('only = ["plain"]', r"only: names arms of the study that this one extends; say which"),
    ],
)
def test_arms_that_cannot_be_taken_are_one_line(said, message, tmp_path):
    make(tmp_path)
    with pytest.raises(StudyError, match=f"more.toml: {message}"):
        read(make(tmp_path, f'{said}\ntitle = "more"\n{COMPARE}', "more"))
