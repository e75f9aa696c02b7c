"""The schema that editors complete and check by: it takes what homeport takes, and says what it can of
what homeport refuses."""

import json
import re
import runpy
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from homeport.config import json_schema, profile_template, schema
from homeport.config.kinds import Key, Kind, ListOf, MapOf, Scalar, Section
from homeport.config.model_keys import MODEL
from tests.config import test_errors, test_load, test_models

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json_schema.json_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def complaints(text: str, validator: jsonschema.Draft7Validator = VALIDATOR) -> list[str]:
    """What an editor would underline. Keys of YAML mappings are text to a JSON schema."""
    data = json.loads(json.dumps(yaml.safe_load(text) or {}, default=str))
    return [error.message for error in validator.iter_errors(data)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_shipped_file_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_config_schema.py"))
    shipped = resources.files("homeport.config").joinpath("schema.json").read_text("utf-8")
    assert shipped == script["text"](), "run: python scripts/make_config_schema.py"


def scalars(kind: Kind) -> Iterator[Scalar]:
    match kind:
        case Scalar():
            yield kind
        case ListOf():
            yield from scalars(kind.item)
        case MapOf():
            yield from scalars(kind.key)
            yield from scalars(kind.item)
        case Section():
            for key in kind.keys:
                yield from scalars(key.kind)


def test_every_kind_of_value_has_a_form() -> None:
    assert {kind.read for kind in scalars(schema.ROOT)} <= json_schema.FRAGMENTS.keys()


def test_every_key_is_told_with_its_manual() -> None:
    (model,) = [SCHEMA["properties"]["models"]["additionalProperties"]]
    assert model["properties"]["ttl"] == model["properties"]["ttl_s"]
    assert model["properties"]["ctx"]["description"].startswith("Context of one request")
    assert "`" not in json.dumps(SCHEMA)


# --- what homeport takes -----------------------------------------------------------------------


def documented() -> list[str]:
    """Every configuration in the documentation."""
    pages = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    texts = (page.read_text("utf-8") for page in pages if page.name != "configuration.md")
    return [
        block for text in texts for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    ]


GOOD = [
    schema.EXAMPLE,
    test_load.FULL,
    test_models.MODELS_YAML,
    *documented(),
    "",
    "models:\nserver:\ndefault_model:\n",
    "server: {port: '8000', keys: , limits: {body_bytes: 64 MiB, resend_grace_s: 0}}",
    "models: {7: {path: 8, ctx: '32_768', args: -v, ttl: 1.5 h, preload: 'On', alias: 1}}",
    "models: {m: {command: [x, '{port}'], env: {A: 1, B: yes}}}",
    "models: {m: {path: a, args: {x: true, y: , z: [1, b]}, backend: llama, sleep: '1'}}",
    "lifecycle: {groups: {a: , b: {apart_from: a}, c: {together: no, apart_from: [a, b]}}}",
]


@pytest.mark.parametrize("text", GOOD, ids=range(len(GOOD)))
def test_what_homeport_takes_is_good(text: str) -> None:
    assert complaints(text) == []


@pytest.mark.parametrize("key", MODEL.keys, ids=lambda key: key.name)
def test_the_examples_of_keys_are_good(key: Key) -> None:
    source = "" if key.name in MODEL.one_of else "path: a, "
    if key.example:
        assert complaints(f"models: {{m: {{{source}{key.name}: {quoted(key.example)}}}}}") == []


def quoted(example: str) -> str:
    """As an item of a flow mapping: text that would end it stands in quotes."""
    is_text = "{" in example and not example.startswith(("{", "["))
    return json.dumps(example) if is_text else example


# --- what it refuses ----------------------------------------------------------------------------

SEEN_BY_A_SCHEMA = {
    *("unknown", "unlike", "misplaced", "deeper", "section-list", "section-text", "list-mapping"),
    *("list-map", "scalar-list", "scalar-map", "boolean", "port-text", "port-high", "port-zero"),
    *("port-float", "origin", "size", "size-zero", "seconds", "seconds -1", "sha", "sha-missing"),
    *("name-missing", "neither", "search-without-key", "engine", "ctx", "ctx-zero", "env-name"),
    *("env-list", "hub-form", "runner", "sleep-level", "ttl", "backend", "backend-key", "flag-map"),
    *("top-list", "top-text", "null-model", "url localhost:8080", "url ftp://h"),
}


@pytest.mark.parametrize(
    "case", [c for c in test_errors.CASES if c.id in SEEN_BY_A_SCHEMA], ids=lambda case: case.id
)
def test_typical_mistakes_are_seen(case: Any) -> None:
    text = case.text.decode() if isinstance(case.text, bytes) else case.text
    assert complaints(text) != []


def test_the_mistakes_above_exist() -> None:
    assert {case.id for case in test_errors.CASES} >= SEEN_BY_A_SCHEMA


# --- profiles -----------------------------------------------------------------------------------

OF_PROFILES = jsonschema.Draft7Validator(json_schema.of_profiles())


def example_of_a_profile() -> str:
    """The one in the documentation."""
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8").partition("\n## Profiles\n")[2]
    found = re.search(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    "text",
    [
        example_of_a_profile(),
        profile_template.text("x", None),
        "",
        "models: {known: {ctx: 1024}}",
        "server: {limits: {max_tokens: 1}}\nlitellm: {enabled: on}",
    ],
)
def test_profiles_that_are_right(text: str) -> None:
    assert complaints(text, OF_PROFILES) == []


@pytest.mark.parametrize(
    "text", ["server: {port: 1}", "store: off", "litellm: {host: '::'}", "descripton: x"]
)
def test_profiles_that_are_not(text: str) -> None:
    assert complaints(text, OF_PROFILES) != []
