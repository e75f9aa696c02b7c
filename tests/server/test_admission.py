"""Who may come in, as a table."""

import hashlib

import pytest

from homeport.errors import ClientError
from homeport.server.admission import (
    LITELLM_BESIDE,
    MASTER,
    METRICS,
    OPEN_PATHS,
    Admission,
    host_name,
    is_admin,
)
from homeport.settings import ApiKey, ServerSettings

CHAT = "/v1/chat/completions"


def headers(**fields: str) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}


def refusal(admission: Admission, path: str, fields: dict[bytes, bytes]) -> str | None:
    """The kind of the refusal, None when it is let in."""
    try:
        admission.admit(path, fields)
    except ClientError as fault:
        return fault.kind
    return None


# --- without a key: loopback names only -------------------------------------------------------

OPEN = Admission(
    ServerSettings(
        allowed_hosts=("Gateway.LAN",), allowed_origins=("https://App.example", "http://b:8080/")
    )
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:11899",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:1",
        "gateway.lan",
        "Gateway.lan:443",
    ],
)
def test_hosts_that_may(host: str) -> None:
    assert refusal(OPEN, CHAT, headers(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11899",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[",
        "[::2]",
        "127.0.0.2",
        "evil.example.",
        "xlocalhost",
        " localhost",
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/health"])
def test_hosts_that_may_not(host: str, path: str) -> None:
    assert refusal(OPEN, path, headers(host=host)) == "permission"


def test_the_address_that_it_listens_on_may() -> None:
    admission = Admission(ServerSettings(host="127.0.0.2"))
    assert refusal(admission, CHAT, headers(host="127.0.0.2:11899")) is None


def test_no_host_at_all() -> None:
    assert refusal(OPEN, CHAT, {}) == "permission"


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "http://127.0.0.1",
        "https://[::1]:8443",
        "HTTP://LOCALHOST",
        "https://app.example",
        "https://APP.example",
        "http://b:8080",
        "http://gateway.lan",
    ],
)
def test_origins_that_may(origin: str) -> None:
    assert refusal(OPEN, CHAT, headers(host="localhost", origin=origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "http://[",
        "://",
        "x",
        "http://app.example",
        "https://app.example:444",
        "http://b",
        "vscode-webview://abc",
        "http://evil.example/localhost",
        "http://localhost@evil.example",
    ],
)
def test_origins_that_may_not(origin: str) -> None:
    assert refusal(OPEN, CHAT, headers(host="localhost", origin=origin)) == "permission"


def test_a_key_that_nobody_asked_for_is_no_harm() -> None:
    fields = headers(host="localhost", x_api_key="a", authorization="Bearer b")
    assert OPEN.admit(CHAT, fields).name == ""


def test_host_name() -> None:
    assert host_name("A.b:1") == "a.b"
    assert host_name("[FE80::1]:1") == "fe80::1"


# --- with keys: the key decides ---------------------------------------------------------------


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYED = Admission(
    ServerSettings(
        keys=(
            ApiKey(name="ann", sha256=digest("key-a")),
            ApiKey(name="bob", sha256=digest("key-b")),
        )
    )
)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"x_api_key": "key-a"}, "ann"),
        ({"x_api_key": "key-b"}, "bob"),
        ({"api_key": "key-b"}, "bob"),
        ({"authorization": "Bearer key-a"}, "ann"),
        ({"authorization": "bearer key-a"}, "ann"),
        ({"authorization": "BEARER  key-a "}, "ann"),
        ({"authorization": "Bearer wrong", "x_api_key": "key-b"}, "bob"),
        ({"authorization": "Bearer key-b", "x_api_key": "wrong"}, "bob"),
        ({"authorization": "Basic key-a", "x_api_key": "key-a"}, "ann"),
        ({"authorization": "Bearer key-b", "x_api_key": "key-a"}, "ann"),
    ],
)
def test_keys_that_open(fields: dict[str, str], name: str) -> None:
    assert KEYED.admit(CHAT, headers(host="anything.example", **fields)).name == name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "a key is needed"),
        ({"authorization": "Bearer"}, "a key is needed"),
        ({"authorization": "Bearer "}, "a key is needed"),
        ({"authorization": "Basic key-a"}, "a key is needed"),
        ({"authorization": "key-a"}, "a key is needed"),
        ({"x_api_key": ""}, "a key is needed"),
        ({"x_api_key": "wrong"}, "not a valid one"),
        ({"x_api_key": "key-"}, "not a valid one"),
        ({"x_api_key": "key-a "}, "not a valid one"),
        ({"x_api_key": digest("key-a")}, "not a valid one"),
        ({"authorization": "Bearer wrong"}, "not a valid one"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/metrics", "/nowhere", "/healthy", "//"])
def test_keys_that_do_not(fields: dict[str, str], message: str, path: str) -> None:
    with pytest.raises(ClientError, match=message) as error:
        KEYED.admit(path, headers(host="localhost", **fields))
    assert error.value.kind == "authentication"


def test_a_message_never_repeats_the_key() -> None:
    with pytest.raises(ClientError) as error:
        KEYED.admit(CHAT, headers(x_api_key="nearly-secret"))
    assert "nearly-secret" not in error.value.message


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_paths_open_to_all(path: str) -> None:
    assert refusal(KEYED, path, headers(host="10.0.0.7:8080")) is None


# --- other machines come in: without keys it is the master key ---------------------------------

ALL_ADDRESSES = Admission(ServerSettings(host="0.0.0.0", master_key="master"), own_key="own")


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"x_api_key": "master"}, MASTER), ({"authorization": "Bearer own"}, MASTER)],
)
def test_the_master_key_opens_what_other_machines_reach(fields: dict[str, str], name: str) -> None:
    assert ALL_ADDRESSES.admit(CHAT, headers(host="anything.example", **fields)).name == name


@pytest.mark.parametrize("fields", [{}, {"x_api_key": "wrong"}, {"authorization": "Bearer "}])
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/metrics"])
def test_a_loopback_name_does_not(fields: dict[str, str], path: str) -> None:
    """Whoever comes from elsewhere may write what they like into ``Host``."""
    assert refusal(ALL_ADDRESSES, path, headers(host="localhost", **fields)) == "authentication"


def test_probes_stay_open_there() -> None:
    assert refusal(ALL_ADDRESSES, "/health", headers(host="10.0.0.7:8080")) is None


def test_where_only_litellm_listens_for_others() -> None:
    admission = Admission(ServerSettings(master_key="master"), needs_key=True)
    assert refusal(admission, CHAT, headers(host="localhost")) == "authentication"
    assert admission.admit(CHAT, headers(x_api_key="master")).name == MASTER


# --- /metrics with a token --------------------------------------------------------------------

SCRAPED = ServerSettings(metrics_token="token", master_key="master")
SCRAPED_AND_KEYED = ServerSettings(
    metrics_token="token",
    master_key="master",
    keys=(ApiKey(name="ann", sha256=digest("key-a")),),
)


@pytest.mark.parametrize("server", [SCRAPED, SCRAPED_AND_KEYED], ids=["no-keys", "keys"])
@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"authorization": "Bearer token"}, METRICS),
        ({"x_api_key": "token"}, METRICS),
        ({"authorization": "Bearer master"}, MASTER),
        ({"authorization": "Bearer wrong"}, None),
        ({}, None),
    ],
)
def test_the_metrics_token(
    server: ServerSettings, path: str, fields: dict[str, str], name: str | None
) -> None:
    """By any name: Prometheus asks for ``gateway:11899``."""
    admission = Admission(server)
    asked = headers(host="gateway:11899", **fields)
    if name is None:
        assert refusal(admission, path, asked) == "authentication"
    else:
        assert admission.admit(path, asked).name == name


def test_a_client_s_key_opens_metrics_too() -> None:
    assert Admission(SCRAPED_AND_KEYED).admit("/metrics", headers(x_api_key="key-a")).name == "ann"


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/admin/models", "/metrics/x", "/metricsx"])
def test_the_metrics_token_opens_nothing_else(path: str) -> None:
    asked = headers(host="localhost", x_api_key="token")
    assert refusal(Admission(SCRAPED_AND_KEYED), path, asked) == "authentication"
    elsewhere = headers(host="gateway:11899", x_api_key="token")
    assert refusal(Admission(SCRAPED), path, elsewhere) == "permission"


# --- browsers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://app.example", True), ("http://localhost:3000", False), ("null", False)],
)
def test_origin_named_in_answers(origin: str, allowed: bool) -> None:
    found = OPEN.allows_origin(headers(origin=origin))
    assert found == (origin.encode() if allowed else None)
    assert OPEN.allows_origin({}) is None


# --- /admin: a master key and the names ---------------------------------------------------------

MASTERED = Admission(
    ServerSettings(
        keys=(ApiKey(name="ann", sha256=digest("key-a")),),
        master_key="master",
        allowed_hosts=("box.lan",),
        allowed_origins=("https://app.example",),
    ),
    own_key="own",
)
ADMIN = "/admin/models"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"x_api_key": "master"}, None),
        ({"authorization": "Bearer own"}, None),
        ({"x_api_key": "own", "host": "box.lan:11899"}, None),
        ({"x_api_key": "own", "origin": "https://app.example"}, None),
        ({}, "authentication"),
        ({"x_api_key": "key-a"}, "authentication"),
        ({"x_api_key": digest("master")}, "authentication"),
        ({"x_api_key": "own", "host": "evil.example"}, "permission"),
        ({"x_api_key": "own", "origin": "https://evil.example"}, "permission"),
    ],
)
@pytest.mark.parametrize("path", [ADMIN, "/admin", "/admin/", "/admin/nothing"])
def test_admin(fields: dict[str, str], kind: str | None, path: str) -> None:
    assert refusal(MASTERED, path, headers(**{"host": "localhost", **fields})) == kind


@pytest.mark.parametrize("admission", [OPEN, KEYED, Admission(ServerSettings())])
def test_admin_is_closed_without_a_master_key(admission: Admission) -> None:
    for fields in ({}, {"x_api_key": ""}, {"x_api_key": "key-a"}):
        assert refusal(admission, ADMIN, headers(host="localhost", **fields)) == "authentication"


def test_a_master_key_opens_everything_and_is_asked_of_nobody() -> None:
    fields = headers(host="anything.example", x_api_key="own")
    assert MASTERED.admit(CHAT, fields).name == MASTER
    alone = Admission(ServerSettings(master_key="master"), own_key="own")
    assert alone.admit(CHAT, headers(host="localhost")).name == ""
    assert refusal(alone, CHAT, headers(host="evil.example", x_api_key="master")) == "permission"


@pytest.mark.parametrize("path", ["/administrator", "/adminx", "/Admin"])
def test_what_only_looks_like_admin(path: str) -> None:
    assert not is_admin(path)


INTERNAL = "hp-internal"
BESIDE = Admission(ServerSettings(), "own-key", INTERNAL)


def test_litellm_beside_us_comes_in_wherever_models_answer() -> None:
    headers = {b"authorization": b"Bearer hp-internal", b"host": b"anything"}
    for path in ("/v1/messages", "/internal/litellm/usage"):
        assert BESIDE.admit(path, headers) == LITELLM_BESIDE


def test_a_key_of_that_name_is_not_litellm() -> None:
    """Names are the user's to give."""
    key = ApiKey(name=LITELLM_BESIDE.name, sha256=hashlib.sha256(b"theirs").hexdigest())
    keyed = Admission(ServerSettings(keys=(key,)), None, INTERNAL)
    guest = keyed.admit(CHAT, headers(x_api_key="theirs"))
    assert (guest.name, guest.is_litellm) == (LITELLM_BESIDE.name, False)


def test_its_key_does_not_open_admin() -> None:
    with pytest.raises(ClientError) as found:
        BESIDE.admit("/admin/models", {b"x-api-key": b"hp-internal", b"host": b"localhost"})
    assert found.value.kind == "permission"


@pytest.mark.parametrize("key", [b"own-key", b"wrong", b""])
def test_its_routes_are_its_own(key: bytes) -> None:
    with pytest.raises(ClientError) as found:
        BESIDE.admit("/internal/litellm/admit", {b"x-api-key": key, b"host": b"localhost"})
    assert found.value.kind == "authentication"


def test_without_litellm_nobody_has_its_routes() -> None:
    with pytest.raises(ClientError):
        OPEN.admit("/internal/litellm/admit", {b"x-api-key": b"", b"host": b"localhost"})
