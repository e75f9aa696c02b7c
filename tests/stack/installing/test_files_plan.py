"""Whose file it is: every case that there is, and any history of installs and changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeport.stack.installing.files_plan import (
    ENV,
    Step,
    digest,
    is_asked,
    plan,
    removal,
    sums,
)

A, B, MINE = b"first version", b"second version", b"what the user wrote"
SUM = {name: digest(data) for name, data in {"A": A, "B": B, "MINE": MINE}.items()}


def action(shipped: bytes, there: str | None, written: str | None) -> str:
    found = {} if there is None else {"f": there}
    (step,) = plan({"f": shipped}, found, {} if written is None else {"f": written})
    return step.action


def test_each_case() -> None:
    assert action(A, None, None) == "new"
    assert action(A, None, SUM["A"]) == "new", "deleted: that is no change worth keeping"
    assert action(A, SUM["A"], SUM["A"]) == "same"
    assert action(B, SUM["A"], SUM["A"]) == "updated"
    assert action(A, SUM["MINE"], SUM["A"]) == "kept"
    assert action(B, SUM["MINE"], SUM["A"]) == "beside"
    assert action(A, SUM["MINE"], None) == "beside", "nobody knows who wrote it"
    assert action(A, SUM["A"], None) == "same"


def test_what_is_not_needed_any_more_goes_if_it_is_ours() -> None:
    found = {"old": SUM["A"], "changed": SUM["MINE"], "theirs": SUM["MINE"], ENV: SUM["A"]}
    written = {"old": SUM["A"], "changed": SUM["A"], ENV: SUM["A"]}
    assert plan({}, found, written) == [Step("old", "removed")]


def test_of_the_wheels_only_the_new_one_stays() -> None:
    old, new = "gateway/homeport-0.1.0-py3-none-any.whl", "gateway/homeport-0.2.0-py3-none-any.whl"
    steps = plan({new: B}, {old: SUM["MINE"]}, {})
    assert [(step.path, step.action) for step in steps] == [(new, "new"), (old, "removed")]


def test_a_new_one_that_was_taken_over_goes() -> None:
    found, written = {"f": SUM["B"], "f.new": SUM["B"]}, {"f": SUM["B"]}
    assert {s.path: s.action for s in plan({"f": B}, found, written)} == {
        "f": "same",
        "f.new": "removed",
    }
    still = {"f": SUM["MINE"], "f.new": SUM["B"]}
    assert {s.path: s.action for s in plan({"f": B}, still, written)} == {"f": "kept"}


def test_what_is_asked_for() -> None:
    known = {"a"}
    wheel = "gateway/homeport-9-py3-none-any.whl"
    for path in ("a", "a.new", wheel):
        assert is_asked(path, known, ())
        assert is_asked(path, (), known)
    assert not is_asked("models/big.gguf", known, known)


def test_uninstall_takes_what_is_as_it_was_written() -> None:
    found = {
        "compose.yaml": SUM["MINE"],
        "compose.yaml.new": SUM["B"],
        "gateway/Dockerfile": SUM["A"],
        "models/big.gguf": "",
        "manifest.json": "",
        ENV: SUM["A"],
    }
    written = {"compose.yaml": SUM["B"], "gateway/Dockerfile": SUM["A"], ENV: SUM["A"]}
    gone = {"compose.yaml.new", "gateway/Dockerfile", "manifest.json"}
    assert set(removal(found, written, (ENV,)).gone) == gone
    assert set(removal(found, written, (ENV,)).kept) == {"compose.yaml", "models/big.gguf"}
    assert set(removal(found, written).gone) == gone | {ENV}
    assert ENV in removal({**found, ENV: SUM["MINE"]}, written).kept


CONTENTS = st.sampled_from([A, B, b"third version"])
HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("install"), st.dictionaries(st.sampled_from("fgh"), CONTENTS)),
        st.tuples(st.just("change"), st.sampled_from("fgh")),
    ),
    max_size=8,
)


@given(HAPPENINGS)
def test_whatever_happens_a_change_of_the_users_survives(
    happenings: list[tuple[str, dict[str, bytes] | str]],
) -> None:
    disk, written, changed = dict[str, bytes](), dict[str, str](), set[str]()
    for _, what in happenings:
        if isinstance(what, str):
            disk[what] = MINE
            changed.add(what)
            continue
        steps = plan(what, {path: digest(data) for path, data in disk.items()}, written)
        for step in steps:
            if step.action in ("new", "updated"):
                disk[step.path] = step.data
            elif step.action == "beside":
                disk[f"{step.path}.new"] = step.data
            elif step.action == "removed":
                del disk[step.path]
        written = sums(steps)
        assert all(disk[path] == MINE for path in changed)
        for path in set(what) - changed:
            assert disk[path] == what[path]
            assert f"{path}.new" not in disk
    gone, kept = removal({path: digest(data) for path, data in disk.items()}, written)
    assert changed <= set(kept)
    assert sorted((*gone, *kept)) == sorted(disk)
