"""What `homeport proxy` means here."""

from __future__ import annotations

import pytest

from homeport.stack.choosing import Facts, choice


@pytest.mark.parametrize(
    ("facts", "kind", "why"),
    [
        (Facts(), "process", "`homeport install` has not been run"),
        (Facts(has_docker=True), "process", "`homeport install` has not been run"),
        (Facts(has_systemd=True), "unit", "as a service of your systemd"),
        (Facts(is_installed=True, has_docker=True, has_systemd=True), "containers", "installed"),
        (Facts(is_installed=True), "process", "there is no Docker here"),
        (Facts(is_installed=True, has_docker=True, wants_local=True), "process", "--local"),
        (Facts(wants_local=True, has_systemd=True), "unit", "--local"),
        # What was started is meant, whatever else there would be.
        (Facts(started="process", has_systemd=True), "process", "was started as a process"),
        (
            Facts(started="unit", is_installed=True, has_docker=True),
            "unit",
            "was started as a serv",
        ),
        (Facts(started="process", wants_local=True, has_systemd=True), "process", "was started"),
    ],
)
def test_what_is_chosen_and_why(facts: Facts, kind: str, why: str) -> None:
    chosen = choice(facts)
    assert chosen.kind == kind
    assert why in chosen.why
