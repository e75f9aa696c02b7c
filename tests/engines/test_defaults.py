"""``defaults.backends``, put below each model of an engine."""

from homeport.engines.defaults import merged
from homeport.facts import EngineName
from homeport.settings import BackendDefaults, BackendName, Defaults, ModelSettings

VLLM = BackendDefaults(
    version="v1",
    image="vllm/x",
    runner="container",
    args=("--a", "1"),
    env=(("A", "1"), ("B", "1")),
    port=8000,
    ctx=4096,
    slots=3,
    ttl_s=60,
)


def under(
    *models: ModelSettings, engine: EngineName = "vllm", name: BackendName = "vllm"
) -> tuple[ModelSettings, ...]:
    return merged(models, {m.id: engine for m in models}, Defaults(backends=((name, VLLM),)))


def test_what_a_model_leaves_out_is_filled_in() -> None:
    (found,) = under(ModelSettings(id="m", path="/m"))
    assert found == ModelSettings(
        id="m",
        path="/m",
        engine="vllm",
        version="v1",
        image="vllm/x",
        runner="container",
        args=("--a", "1"),
        env=(("A", "1"), ("B", "1")),
        port=8000,
        ctx=4096,
        slots=3,
        ttl_s=60,
    )


def test_what_a_model_says_wins() -> None:
    own = ModelSettings(
        id="m",
        path="/m",
        version="v2",
        runner="process",
        args=("--a", "2"),
        env=(("B", "2"), ("C", "2")),
        port=9000,
        ctx=1,
        slots=1,
        ttl_s=1,
    )
    (found,) = under(own)
    assert found.args == ("--a", "1", "--a", "2")  # the later one wins
    assert dict(found.env) == {"A": "1", "B": "2", "C": "2"}
    assert (found.version, found.runner, found.port) == ("v2", "process", 9000)
    assert (found.ctx, found.slots, found.ttl_s) == (1, 1, 1)


def test_an_image_of_its_own_has_a_tag_of_its_own_and_asks_for_a_container() -> None:
    models = (ModelSettings(id="m", path="/m", image="mine"),)
    (found,) = merged(
        models, {"m": "vllm"}, Defaults(backends=(("vllm", BackendDefaults(version="v1")),))
    )
    assert (found.image, found.version, found.runner) == ("mine", None, "container")


def test_a_default_port_is_for_one_model() -> None:
    models = [
        ModelSettings(id=name, path="/m", port=p)
        for name, p in [("a", 1), ("b", None), ("c", None)]
    ]
    assert [m.port for m in under(*models)] == [1, 8000, None]
    taken = ModelSettings(id="t", path="/m", engine="mlx", port=8000)
    found = merged((models[1], taken), {"b": "vllm"}, Defaults(backends=(("vllm", VLLM),)))
    assert [m.port for m in found] == [None, 8000]


def test_other_engines_and_other_models_are_left_alone() -> None:
    model = ModelSettings(id="m", path="/m")
    (found,) = under(model, engine="mlx")
    assert found == ModelSettings(id="m", path="/m", engine="mlx")
    assert merged((model,), {}, Defaults(backends=(("vllm", VLLM),))) == (model,)


def test_the_second_call_adds_nothing_to_what_the_first_has_merged() -> None:
    models = (ModelSettings(id="a", path="/a"), ModelSettings(id="b", path="/b"))
    defaults = Defaults(backends=(("vllm", VLLM),))
    once = merged(models, {"a": "vllm"}, defaults)
    twice = merged(once, {"b": "vllm"}, defaults)
    assert twice[0] == once[0]
    assert (twice[1].args, twice[1].port) == (("--a", "1"), None)  # the port is taken
