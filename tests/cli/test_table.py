"""Tables: what is left out where there is no room."""

from homeport.cli.table import Column, lines

COLUMNS = (Column("MODEL"), Column("STATE"), Column("N", 1, is_number=True), Column("ENGINE", 2))
ROWS = (("a-long-model-name", "ready", "3", "llamacpp"), ("b", "stopped", "-", "-"))


def shown(width: int | None) -> list[str]:
    return ["  ".join(cells).rstrip() for cells in lines(COLUMNS, ROWS, width)]


def test_all_of_it() -> None:
    assert (
        shown(None)
        == shown(80)
        == [
            "MODEL              STATE    N  ENGINE",
            "a-long-model-name  ready    3  llamacpp",
            "b                  stopped  -  -",
        ]
    )


def test_columns_go_before_names_are_shortened() -> None:
    assert shown(31)[1] == "a-long-model-name  ready    3"
    assert shown(28)[1] == "a-long-model-name  ready"
    assert shown(20)[1] == "a-long-mod…  ready"
    assert shown(20)[2] == "b            stopped"
    assert shown(1)[1] == "a-long-…  ready"


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in range(17, 60):
        assert all(len(line) <= width for line in shown(width))
