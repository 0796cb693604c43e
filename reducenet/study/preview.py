"""Chains that cannot work are found before anything trains: a helper process plays each on an untrained network (`play.preview`).

The answer is kept beside the store, by chains, data and versions, so the next `plan` of the same study does not ask again.
"""

import json
from collections.abc import Iterator

from reducenet.data import sources
from reducenet.store import Store, whole
from reducenet.study import key as keys
from reducenet.study.aside import answers
from reducenet.study.plan import Plan, words_used
from reducenet.study.read import StudyError
from reducenet.words import added, lock


def refusals(plan: Plan, store: Store) -> Iterator[str]:
    """A line for each arm whose chain cannot be played, as it is found: `arms.twice: drop_branch: no block has a branch1 ...`."""
    versions = {lock.name_of(word): lock.version(word) for word in words_used(plan)}
    asked = {"chains": plan.study.chains, "data": plan.study.images, "own_words": added()}
    key = keys.key(**asked, versions=versions, shared=lock.shared_version("train"), images=sources.fingerprint(plan.study.images),
                   player=lock.hash_of("reducenet.play.preview"))  # fmt: skip
    kept = store.folder / "_played" / f"{key}.json"
    if kept.is_file():
        yield from json.loads(kept.read_text(encoding="utf-8"))
        return
    found = []
    trouble = f"{plan.path}: its chains could not be played in miniature"
    for refused in answers("reducenet.play.preview", asked, trouble, OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""):
        found.append(f"arms.{refused['arm']}: {refused['why']}")
        yield found[-1]
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole(kept) as partial:
        partial.write_text(json.dumps(found), encoding="utf-8")


def check(plan: Plan, store: Store) -> None:
    """Raises `StudyError`, one line, where an arm cannot be played."""
    found = list(refusals(plan, store))
    if found:
        more = f" (and {len(found) - 1} more; `reducenet plan` lists them)" if len(found) > 1 else ""
        raise StudyError(f"{plan.path}: {found[0]}{more}")
