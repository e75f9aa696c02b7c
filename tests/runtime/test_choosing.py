"""The engine of each model, found by its files, and its defaults with it."""

from pathlib import Path

from homeport.demo import demo_model_path
from homeport.facts import Machine
from homeport.runtime.choosing import with_engines
from homeport.settings import BackendDefaults, Defaults, LifecycleSettings, ModelSettings, Settings

LLAMA = BackendDefaults(args=("--threads", "2"), ctx=4096)


def test_found_engines_get_their_defaults(tmp_path: Path) -> None:
    demo = str(demo_model_path())
    settings = Settings(
        models=(
            ModelSettings(id="found", path=demo),
            ModelSettings(id="named", path=demo, engine="llamacpp"),  # merged when it was read
            ModelSettings(id="unknown", path=str(tmp_path)),
            ModelSettings(id="gone", path=str(tmp_path / "gone.gguf")),
            ModelSettings(id="remote", upstream="http://h/v1"),
        ),
        defaults=Defaults(backends=(("llamacpp", LLAMA),)),
        lifecycle=LifecycleSettings(max_queue=3),
    )
    found = with_engines(settings, Machine())
    assert found.models[0] == ModelSettings(
        id="found", path=demo, engine="llamacpp", args=LLAMA.args, ctx=4096
    )
    assert found.models[1:] == settings.models[1:]
    assert found.lifecycle == settings.lifecycle
    assert with_engines(found, Machine()) == found
