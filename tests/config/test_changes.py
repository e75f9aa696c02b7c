"""What a reload says that has changed."""

from msgspec.structs import replace

from homeport.config.changes import NEEDS_RESTART, changed_keys
from homeport.settings import (
    LifecycleSettings,
    Limits,
    ModelSettings,
    ServerSettings,
    Settings,
    WebSearchSettings,
)


def test_by_the_keys_of_the_file() -> None:
    before = Settings(models=(ModelSettings(id="a", path="/a.gguf"),))
    after = Settings(
        server=ServerSettings(port=1, allowed_hosts=("h",), limits=Limits(max_tokens=5)),
        lifecycle=LifecycleSettings(min_dwell_s=9.0),
        aliases=(("gpt-*", "a"),),
        web_search=WebSearchSettings(searxng="http://s"),
    )
    assert changed_keys(before, after) == (
        *("server.port", "server.allowed_hosts", "server.limits"),
        *("lifecycle.min_dwell_s", "aliases", "web_search"),
    )
    assert changed_keys(before, before) == ()


def test_what_needs_a_restart_is_a_key() -> None:
    """A key that has been renamed must not be forgotten there."""
    known = {f"server.{name}" for name in ServerSettings.__struct_fields__}
    known |= {f"lifecycle.{name}" for name in LifecycleSettings.__struct_fields__}
    assert known | set(Settings.__struct_fields__) >= NEEDS_RESTART
    assert changed_keys(Settings(), replace(Settings(), discover=False)) == ("discover",)
