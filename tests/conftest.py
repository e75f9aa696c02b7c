"""Which tests run: what takes long, or fetches much, only where it is asked for."""

from __future__ import annotations

import pytest

ASKED_FOR = {
    "slow_client": ("--slow-clients", "a long one: `make test-clients` runs it"),
    "slow_engines": ("--slow-engines", "a long one: `make test-engines` runs it"),
    "slow_containers": ("--slow-containers", "a long one: `make test-containers` runs it"),
    "slow_store": ("--slow-store", "takes a minute or two: `make test-store` runs it"),
    "slow_litellm": ("--litellm", "installs LiteLLM (700 MB): `make test-litellm` runs it"),
    "slow_vllm": ("--vllm", "installs vLLM (3.5 GB): `make test-vllm` runs it"),
}
"""Marker → the option that lets it run, and why it does not without."""


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, (option, _) in ASKED_FOR.items():
        parser.addoption(option, action="store_true", help=f"run the tests marked {marker}, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for marker, (option, why) in ASKED_FOR.items():
        if config.getoption(option):
            continue
        skip = pytest.mark.skip(reason=f"{why}, or {option}")
        for item in items:
            if marker in item.keywords:
                item.add_marker(skip)
