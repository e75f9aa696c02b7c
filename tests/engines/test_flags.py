"""The user's own flags, read as the engine reads them."""

import pytest

from homeport.engines import flags


@pytest.mark.parametrize(
    ("args", "value"),
    [
        (("-c", "4096"), "4096"),
        (("--ctx-size", "1", "-c", "2"), "2"),
        (("-c", "2", "--ctx-size=1"), "1"),
        (("--ctx_size", "3"), "3"),
        (("--ctx-size=",), ""),
        (("-c",), None),
        (("--ctx", "9"), None),
        ((), None),
    ],
)
def test_the_last_one_counts_in_any_spelling(args: tuple[str, ...], value: str | None) -> None:
    assert flags.value(args, "-c", "--ctx-size") == value


def test_numbers_and_fractions_that_are_none_count_as_absent() -> None:
    for text in ("x", "-1", "1.5", "٣", ""):
        assert flags.number(("-c", text), "-c") is None
    assert flags.number(("-c", "0"), "-c") == 0
    for text in ("x", "0", "1.1", "-0.5", "nan", ""):
        assert flags.fraction(("--f", text), "--f") is None
    assert flags.fraction(("--f=0.35",), "--f") == 0.35


def test_a_switch() -> None:
    assert flags.is_set(("--swa_full",), "--swa-full")
    assert not flags.is_set(("--no-swa-full", "x"), "--swa-full")
