"""Listening beyond this machine needs a key. (The rules on files: test_errors.py.)"""

import pytest

from homeport.config.keys import sha256_of
from homeport.config.rules import bind_problem, litellm_problem, token_problem
from homeport.settings import ApiKey, LiteLLMSettings, ServerSettings, Settings

KEY = ApiKey(name="a", sha256="0" * 64)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "LocalHost",
     "localhost."],
)  # fmt: skip
def test_loopback_needs_no_key(host: str) -> None:
    assert bind_problem(ServerSettings(host=host)) is None


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "192.168.1.2", "::ffff:192.168.1.2", "box", "localhost.example.org",
     "127.0.0.1.example.org", "2130706433"],
)  # fmt: skip
def test_anything_else_does(host: str) -> None:
    problem = bind_problem(ServerSettings(host=host))
    assert problem is not None
    assert problem.key == "server.host"
    assert f"listening on {host or 'all addresses'} lets other machines in" in problem.message
    assert "homeport key new" in problem.hint
    assert "HOMEPORT_MASTER_KEY" in problem.hint
    assert ServerSettings(host=host).needs_key
    assert bind_problem(ServerSettings(host=host, keys=(KEY,))) is None
    assert bind_problem(ServerSettings(host=host, master_key="m")) is None


def test_on_loopback_clients_need_a_key_where_there_are_some() -> None:
    assert not ServerSettings(master_key="m").needs_key
    assert ServerSettings(keys=(KEY,)).needs_key


@pytest.mark.parametrize(
    ("litellm", "server", "is_refused"),
    [
        (LiteLLMSettings(enabled=True, host="::"), ServerSettings(), True),
        (LiteLLMSettings(enabled=True, host="::"), ServerSettings(keys=(KEY,)), False),
        (LiteLLMSettings(enabled=True, host="::"), ServerSettings(master_key="m"), False),
        (LiteLLMSettings(enabled=False, host="::"), ServerSettings(), False),
        (LiteLLMSettings(enabled=True), ServerSettings(), False),
    ],
)
def test_the_same_holds_for_litellm(
    litellm: LiteLLMSettings, server: ServerSettings, is_refused: bool
) -> None:
    settings = Settings(litellm=litellm, server=server)
    problem = litellm_problem(settings)
    assert (problem is not None) == is_refused
    if problem is not None:
        assert problem.key == "litellm.host"
    assert settings.needs_key == ((litellm.enabled and litellm.host == "::") or bool(server.keys))


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (ServerSettings(metrics_token="t", master_key="t"), "is the master key as well"),
        (
            ServerSettings(
                metrics_token="t", keys=(ApiKey(name="a", sha256=sha256_of("t")),), master_key="m"
            ),
            "is a key of server.keys as well",
        ),
    ],
)
def test_a_metrics_token_opens_nothing_else(server: ServerSettings, message: str) -> None:
    problem = token_problem(server)
    assert problem is not None
    assert (problem.key, problem.message) == ("server.metrics_token", message)
    assert token_problem(ServerSettings(metrics_token="t", master_key="m", keys=(KEY,))) is None
    assert token_problem(ServerSettings(master_key="m")) is None
