"""Every way to get the file wrong: line, key path, message and hint of each."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.config import load, nodes, schema
from homeport.config.keys import sha256_of
from homeport.config.problems import MAX_SHOWN, CollectedConfigError, Problems
from tests.config.conftest import SHA, Errors

MODEL = "models:\n  m:\n    "
UPSTREAM = MODEL + "upstream: http://h/v1\n"
ON_PATH = MODEL + "path: a.gguf\n"
PAIR = "models:\n  m: {{path: a.gguf, {a}}}\n  n: {{path: b.gguf, {b}}}\n"


SECRET = "hp-dummy"


class Case(NamedTuple):
    id: str
    text: str | bytes
    line: int
    key: str
    message: str
    hint: str


CASES = [
    # the file as YAML
    Case("syntax", "server:\n  port: [1\nx: 1\n", 3, "", "YAML: while parsing", "open quote"),
    Case("tab", "server:\n\tport: 1\n", 2, "", "'\\t' that cannot start", "spaces, not tabs"),
    Case("star", "aliases:\n  *-mini: m\n", 2, "", "alias", "needs quotes"),
    Case("documents", "a: 1\n---\nb: 1\n", 2, "", "single document", "one document per file"),
    Case("control", "server:\n  host: a\x07\n", 2, "", "control character", "delete"),
    Case("escape", 'default_model: "\\Uffffffff"\n', 1, "", "YAML: ", "\\U escape"),
    Case("deep", "[" * 5000, 1, "", "nested too deeply", "flatter"),
    Case("latin-1", b"server:\n  host: caf\xe9\n", 2, "", "is not UTF-8", "save the file as UTF-8"),
    Case("top-list", "- a\n", 1, "", "the file must be a mapping, is a list", "'models:'"),
    Case("top-text", "hello\n", 1, "", "must be a mapping, is a single value", "key: value"),
    Case("tag", "default_model: !env X\n", 1, "default_model", "the tag !env", "delete it"),
    Case("python", "models: !!python/name:os.system x", 1, "models", "has the tag", "not used"),
    Case("merge", "models:\n  m:\n    <<: {}\n    path: a.gguf\n", 3, "models.m", "<<", "out"),
    Case("odd-key", "server:\n  ? [a]\n  : 1\n", 2, "server", "a key must be text", "key: value"),
    Case("half", 'default_model: "\\ud800"', 1, "default_model", "half a character", "\\u"),
    Case("half-key", '"\\ud800": 1', 1, "", "a key must be text", "key: value"),
    # keys
    Case("unknown", "server:\n  prot: 1\n", 2, "server.prot", "unknown key", "mean 'port'?"),
    Case("unlike", "zzz: 1\n", 1, "zzz", "unknown key", "known: aliases, autocomplete"),
    Case("misplaced", "port: 1\n", 1, "port", "unknown key", "'port' belongs under 'server'"),
    Case("deeper", "body_bytes: 1\n", 1, "body_bytes", "unknown", "belongs under 'server.limits'"),
    Case("twice", "server: {}\nserver: {}\n", 2, "server", "twice; the first is on line 1", "keep"),
    Case("model-twice", ON_PATH + "  m: {}\n", 4, "models.m", "here twice", "keep one"),
    Case("both-spellings", ON_PATH + "    alias: x\n    aliases: [y]\n", 5, "models.m.aliases",
         "'aliases' and 'alias' are the same key", "delete the other"),
    # shapes that people try
    Case("models-list", "models:\n  - name: coder\n    path: a.gguf\n  - small: {path: a}\n", 1,
         "models", "is a list", "a line 'coder:', and its settings indented below it; so for small"),
    Case("models-files", "models: [a.gguf]\n", 1, "models", "is a list", "a line 'NAME:'"),
    Case("aliases-list", "aliases:\n  - gpt: m\n", 1, "aliases", "a list", "without '-': 'gpt: ...'"),
    Case("beside", "models:\n  coder:\n    upstream: http://127.0.0.1:1\n  path: a.gguf\n", 4,
         "models.path", "'path' stands beside 'coder', not in it", "two spaces more than 'coder:'"),
    Case("bare-key", f"server:\n  keys:\n    - {SECRET}\n", 3, "server.keys.0", "a single value",
         f"- {{name: \"laptop\", sha256: {sha256_of(SECRET)}}}"),
    Case("bare-digest", f"server:\n  keys: ['{sha256_of(SECRET)}']\n", 2, "server.keys.0",
         "a single value", f"sha256: {sha256_of(SECRET)}}}: whose"),
    Case("bare-word", "server:\n  keys: phone\n", 2, "server.keys", "must be a list",
         "`homeport key new --name laptop` makes a key"),
    Case("named-key", f"server:\n  keys:\n    phone: {SECRET}\n", 2, "server.keys", "must be a list",
         f"- {{name: \"phone\", sha256: {sha256_of(SECRET)}}}"),
    Case("unlisted-key", "server:\n  keys:\n    name: phone\n    sha256: x\n", 2, "server.keys",
         "must be a list", "put a '-' before 'name:'"),
    Case("model-text", "models: {m: a.gguf}\n", 1, "models.m", "single value", "'path: ...'"),
    # types
    Case("section-list", "server: [a]\n", 1, "server", "this must be a mapping, is a list", "lines"),
    Case("section-text", "server: x\n", 1, "server", "must be a mapping, is a single value", "lines"),
    Case("list-mapping", MODEL + "path: a.gguf\n    aliases: {a: b}\n", 4, "models.m.aliases",
         "must be a list, is a mapping", "one '- ...' line for each"),
    Case("list-map", "server:\n  keys: {a: b}\n", 2, "server.keys", "list, is a mapping", "--name a"),
    Case("scalar-list", "default_model: [a]\n", 1, "default_model", "(model), is a list", "one value"),
    Case("scalar-map", "server: {port: {a: 1}}", 1, "server.port", "is a mapping", "one value"),
    Case("empty-item", MODEL + "path: a.gguf\n    args: [-v, ~]\n", 4, "models.m.args.1",
         "has no value", '"" is empty text'),
    Case("empty-alias", "aliases:\n  x:\n", 2, "aliases.x", "has no value", "write one"),
    Case("boolean", "strict_models: maybe\n", 1, "strict_models", "true or false, is 'maybe'", "true"),
    # server
    Case("port-high", "server:\n  port: 70000\n", 2, "server.port", "not a port: 70000", "1 to 65535"),
    Case("port-zero", "server:\n  port: 0\n", 2, "server.port", "not a port: 0", "1 to 65535"),
    Case("port-minus", "server:\n  port: -1\n", 2, "server.port", "not a port: -1", "1 to 65535"),
    Case("port-text", "server:\n  port: http\n", 2, "server.port", "whole number, is 'http'", "65535"),
    Case("port-float", "server:\n  port: 80.5\n", 2, "server.port", "whole number", "65535"),
    Case("port-bool", "server:\n  port: on\n", 2, "server.port", "whole number, is 'on'", "65535"),
    Case("port-empty", "server:\n  port: ''\n", 2, "server.port", "whole number", "65535"),
    Case("host-port", "server:\n  host: '0.0.0.0:80'\n", 2, "server.host", "alone", "port"),
    Case("host-url", "server:\n  host: http://x\n", 2, "server.host", "alone", "port"),
    Case("host-odd", "server:\n  host: a b\n", 2, "server.host", "not a host name", "127.0.0.1"),
    Case("origin", "server:\n  allowed_origins: [x.org]\n", 2, "server.allowed_origins.0",
         "is not an origin", "https://"),
    Case("origin-star", "server:\n  allowed_origins: ['http://*']\n", 2,
         "server.allowed_origins.0", "is not an origin", "https://"),
    Case("allowed-host", "server:\n  allowed_hosts:\n  - a\n  - b:1\n", 4,
         "server.allowed_hosts.1", "address or a name alone", "port"),
    Case("size", "server:\n  limits:\n    body_bytes: 64 parsec\n", 3, "server.limits.body_bytes",
         "must be a size, is '64 parsec'", "64MiB"),
    Case("size-zero", "server: {limits: {body_bytes: 0}}", 1, "server.limits.body_bytes",
         "must be a size", "64MiB"),
    Case("seconds", "server:\n  limits:\n    idle_timeout_s: 1 hour\n", 3,
         "server.limits.idle_timeout_s", "number of seconds above 0, is '1 hour'", "30"),
    *(Case(f"seconds {bad}", f"server: {{limits: {{drain_timeout_s: {bad}}}}}", 1,
           "server.limits.drain_timeout_s", "seconds above 0", "30")
      for bad in ("0", "-1", ".nan", "nan", "inf")),
    # keys of clients
    Case("sha", "server:\n  keys:\n    - name: a\n      sha256: abc\n", 4, "server.keys.0.sha256",
         "64 hexadecimal digits", "homeport key new"),
    Case("sha-is-key", f"server:\n  keys:\n    - name: a\n      sha256: hp-{SHA}\n", 4,
         "server.keys.0.sha256", "the key itself", "homeport key new"),
    Case("sha-missing", "server:\n  keys:\n    - name: a\n", 3, "server.keys.0",
         "'sha256' is missing", "add sha256"),
    Case("sha-null", "server:\n  keys:\n    - name: a\n      sha256:\n", 3, "server.keys.0",
         "'sha256' is missing", "add sha256"),
    Case("name-missing", f"server:\n  keys:\n    - sha256: {SHA}\n", 3, "server.keys.0",
         "'name' is missing", "add name"),
    Case("name-empty", f"server:\n  keys:\n    - name: ' '\n      sha256: {SHA}\n", 3,
         "server.keys.0.name", "is empty", "write a value"),
    Case("key-names", "server:\n  keys:\n" + f"    - {{name: a, sha256: {SHA}}}\n" * 2, 4,
         "server.keys.1", "another key is called 'a'", "its own name"),
    # models
    Case("neither", "models:\n  m: {}\n", 2, "models.m", "no 'path', 'hub'", "path: FILE"),
    Case("null-model", "models:\n  m:\n", 2, "models.m", "no 'path', 'hub'", "upstream: http"),
    Case("both", UPSTREAM + "    path: a.gguf\n", 2, "models.m", "both 'path' and", "keep the one"),
    Case("no-file", MODEL + "path: x/y.gguf\n", 3, "models.m.path",
         "no file or folder 'x/y.gguf'", "it was looked for at "),
    Case("no-file-abs", MODEL + "path: /no/y.gguf\n", 3, "models.m.path", "'/no/y.gguf'", "check"),
    *(Case(f"url {bad}", MODEL + f"upstream: {bad}\n", 3, "models.m.upstream",
           "is not an http:// or https:// address", "http://127.0.0.1:8080/v1")
      for bad in ("localhost:8080", "ftp://h", "http://", "http://h:99999", "http://h:x",
                  "'http://a b'", "'http://[::1'", "http://h:0")),
    Case("url-user", MODEL + "upstream: http://u:geheim@h/v1\n", 3, "models.m.upstream",
         "user name or password", "api_key"),
    Case("url-query", MODEL + "upstream: http://h/v1?a=b\n", 3, "models.m.upstream", "query", "http"),
    Case("variable", UPSTREAM + "    api_key: ${NOPE}\n", 4, "models.m.api_key",
         "environment variable NOPE is not set", "export NOPE="),
    Case("key-with-line-break", UPSTREAM + '    api_key: "ab\\n"\n', 4, "models.m.api_key",
         "no key has", "line break"),
    Case("search-twice", "web_search:\n  searxng: http://h\n  brave: {api_key: x}\n", 3,
         "web_search.brave", "to 'searxng' already", "keep one"),
    Case("search-without-key", "web_search:\n  tavily: {url: http://h}\n", 2, "web_search.tavily",
         "'api_key' is missing", "add"),
    Case("variable-litellm", UPSTREAM + "    api_key: os.environ/NOPE\n", 4, "models.m.api_key",
         "environment variable NOPE is not set", "export NOPE="),
    Case("engine", UPSTREAM + "    engine: vlm\n", 4, "models.m.engine", "'vlm'", "mean 'vllm'?"),
    Case("engine-unlike", UPSTREAM + "    engine: q\n", 4, "models.m.engine", "'q'", "known: custom"),
    Case("ctx", ON_PATH + "    ctx: 32k\n", 4, "models.m.ctx", "whole number, is '32k'", "32768, not"),
    Case("ctx-zero", ON_PATH + "    ctx: 0\n", 4, "models.m.ctx", "at least 1", "leave the key out"),
    Case("env-name", ON_PATH + "    env: {a-b: 1}\n", 4, "models.m.env.a-b", "variable name", "_"),
    Case("env-list", ON_PATH + "    env: [A=1]\n", 4, "models.m.env", "must be a mapping", "lines"),
    Case("nul", ON_PATH + '    args: ["\\0"]\n', 4, "models.m.args.0", "NUL", "delete"),
    Case("binary", ON_PATH + "    binary: ./none\n", 4, "models.m.binary", "no file", "looked for at"),
    Case("stray-slots", UPSTREAM + "    slots: 4\n", 4, "models.m.slots",
         "goes only with 'path', 'hub', 'command'; this model has 'upstream'", "delete this line"),
    Case("stray-key", ON_PATH + "    api_key: x\n", 4, "models.m.api_key", "with 'upstream'", "delete"),
    Case("id-star", "models:\n  m*: {path: a.gguf}\n", 2, "models.m*", "holds no '*'", "aliases:"),
    Case("id-space", "models:\n  ' m': {path: a.gguf}\n", 2, 'models." m"', "not a model", "spaces"),
    Case("id-empty", "models:\n  '': {path: a.gguf}\n", 2, 'models.""', "not a model", "printable"),
    Case("id-long", f"models:\n  {'m' * 300}: {{path: a.gguf}}\n", 2, f"models.{'m' * 300}",
         "longer than 256", "shorter"),
    Case("dotted", "models:\n  q2.5: {path: a.gguf, ctx: x}\n", 2, 'models."q2.5".ctx', "whole", "32"),
    # engines that are started
    Case("hub-and-path", ON_PATH + "    hub: a/b\n", 2, "models.m", "both 'path' and 'hub'", "keep"),
    Case("hub-form", MODEL + "hub: qwen\n", 3, "models.m.hub", "not a model on the", "ORG/NAME"),
    Case("hub-file", MODEL + "hub: models/x.gguf\n", 3, "models.m.hub", "x.gguf", "under path"),
    Case("path-is-hub", MODEL + "path: org/name\n", 3, "models.m.path", "no file", "hub: ORG/NAME"),
    Case("hub-quant", MODEL + "hub: a/b:Q4\n    engine: mlx\n", 3, "models.m.hub",
         "':Q4' picks a GGUF file, which mlx", "engine: llamacpp"),
    Case("command-and-url", UPSTREAM + "    command: x {port}\n", 2, "models.m",
         "both 'command' and 'upstream'", "keep"),
    Case("no-port", MODEL + "command: serve it\n", 3, "models.m.command", "where the port", "{port}"),
    Case("command-engine", MODEL + "command: x {port}\n    engine: vllm\n", 3, "models.m.command",
         "for 'engine: custom'; this one is vllm", "delete command"),
    Case("custom", ON_PATH + "    engine: custom\n", 4, "models.m.engine", "needs a 'command'", "add"),
    Case("quote", MODEL + "command: x {port} 'y\n", 3, "models.m.command", "cannot be split", "close"),
    Case("not-started", ON_PATH + "    engine: ollama\n", 4, "models.m.engine",
         "homeport does not start ollama", "upstream: URL"),
    Case("runner", ON_PATH + "    runner: docker\n", 4, "models.m.runner", "not a runner", "container"),
    Case("runner-binary", ON_PATH + "    runner: container\n    binary: x\n", 5, "models.m.binary",
         "runs as a process", "delete binary or runner"),
    Case("runner-command", MODEL + "command: x {port}\n    runner: container\n", 3,
         "models.m.command", "runs as a process", "delete command or runner"),
    Case("runner-image", ON_PATH + "    runner: process\n    image: x\n", 5, "models.m.image",
         "'runner: process'", "delete image or runner"),
    Case("image", ON_PATH + "    image: a b\n", 4, "models.m.image", "not a container image", "TAG"),
    Case("version", ON_PATH + "    version: ':1'\n", 4, "models.m.version", "not a version", "tag"),
    Case("sleep", ON_PATH + "    engine: mlx\n    sleep: 1\n", 5, "models.m.sleep",
         "only vllm sleeps; the engine is mlx", "delete this line"),
    Case("sleep-level", ON_PATH + "    sleep: 3\n", 4, "models.m.sleep", "must be 1 or 2", "leave"),
    Case("stray-ttl", UPSTREAM + "    ttl: 5m\n", 4, "models.m.ttl_s", "only with 'path'", "delete"),
    Case("ttl", ON_PATH + "    ttl: soon\n", 4, "models.m.ttl", "number of seconds", "10m or 1h"),
    Case("port-twice", ON_PATH + "    port: 9000\n  n: {path: b.gguf, port: 9000}\n", 5,
         "models.n.port", "port 9000 is that of model 'm' already", "choose another"),
    Case("port-ours", ON_PATH + "    port: 11899\n", 4, "models.m.port", "that of the gateway", "free"),
    Case("port-default", ON_PATH + "    port: 9000\ndefaults: {backends: {llama: {port: 9000}}}\n", 5,
         "defaults.backends.llama.port", "that of model 'm' already", "choose another"),
    Case("group", ON_PATH + "    group: big\n", 4, "models.m.group", "group 'big'", "lifecycle"),
    Case("group-near", ON_PATH + "    group: bi\nlifecycle: {groups: {big: }}\n", 4, "models.m.group",
         "no group 'bi'", "did you mean 'big'?"),
    Case("apart", "lifecycle:\n  groups:\n    a:\n      apart_from: b\n", 4,
         "lifecycle.groups.a.apart_from.0", "there is no group 'b'", "known: a"),
    Case("apart-self", "lifecycle:\n  groups:\n    a: {apart_from: a}\n", 3,
         "lifecycle.groups.a.apart_from.0", "is this group itself", "one at a time"),
    Case("pinned-apart", PAIR.format(a="group: a, pinned: on", b="group: b, pinned: on")
         + "lifecycle: {groups: {a: , b: {apart_from: a}}}\n", 3, "models.n.pinned",
         "'m' is too, and the groups never let both run", "delete pinned"),
    Case("pinned-one-group", PAIR.format(a="group: a, pinned: on", b="group: a, pinned: on")
         + "lifecycle: {groups: {a: }}\n", 3, "models.n.pinned", "'m' is too", "lifecycle.groups"),
    Case("preload-apart", PAIR.format(a="group: a, preload: on", b="group: a, preload: on")
         + "lifecycle: {groups: {a: }}\n", 3, "models.n.preload", "'m' is too", "delete preload"),
    Case("memory", ON_PATH + "    memory: 9GiB\nlifecycle: {memory: 8GiB}\n", 4,
         "models.m.memory_bytes", "could never start", "lower the other"),
    Case("pinned-memory", PAIR.format(a="memory: 5GB, pinned: on", b="memory: 5GB, pinned: on")
         + "lifecycle: {memory: 8GB}\n", 4, "lifecycle.memory_bytes", "together", "pin fewer"),
    Case("backend", "defaults:\n  backends:\n    vlm: {}\n", 3, "defaults.backends.vlm",
         "not a backend with defaults: 'vlm'", "did you mean 'vllm'?"),
    Case("backend-key", "defaults: {backends: {vllm: {verson: x}}}\n", 1,
         "defaults.backends.vllm.verson", "unknown key", "did you mean 'version'?"),
    Case("backend-twice", "defaults:\n  backends:\n    llamacpp: {}\n    llama: {}\n", 4,
         "defaults.backends.llama", "'llamacpp' is here already", "keep one"),
    Case("backend-alias", "defaults: {backends: {vllm: {alias: x}}}\n", 1,
         "defaults.backends.vllm.alias", "goes only with litellm", "under models"),
    Case("flag", ON_PATH + "    args: {'a b': 1}\n", 4, 'models.m.args."a b"', "not a flag", "write"),
    Case("flag-map", ON_PATH + "    args: {a: {b: 1}}\n", 4, "models.m.args.a", "list, is a", "- ."),
    Case("autocomplete", ON_PATH + "autocomplete_model: n\n", 4, "autocomplete_model", "'n'", "m"),
    Case("autocomplete-kind", ON_PATH + "    embeddings: on\nautocomplete_model: m\n", 5,
         "autocomplete_model", "'m' is an embedding model", "writes text"),
    # names
    Case("alias-is-id", ON_PATH + "  n:\n    path: b.gguf\n    alias: m\n", 6,
         "models.n.aliases.0", "'m' is the id of model 'm' already", "another alias"),
    Case("alias-twice", ON_PATH + "    alias: x\n  n:\n    path: b.gguf\n    aliases:\n    - x\n", 8,
         "models.n.aliases.0", "'x' is an alias of model 'm' already", "another alias"),
    Case("pattern-is-id", ON_PATH + "aliases:\n  m: m\n", 5, "aliases.m", "the id of model", "rename"),
    Case("alias-unknown", ON_PATH + "aliases:\n  c-*: n\n", 5, "aliases.c-*", "model 'n'", "known: m"),
    Case("alias-near", "models:\n  qwen3: {path: a.gguf}\naliases:\n  c: qwen\n", 4, "aliases.c",
         "no model 'qwen'", "did you mean 'qwen3'?"),
    Case("default-unknown", ON_PATH + "default_model: n\n", 4, "default_model", "model 'n'", "known"),
    Case("default-none", "discover: no\ndefault_model: no\n", 2, "default_model", "model 'no'", "none"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_one_error(case: Case, errors: Errors, folder: Path) -> None:
    (error,) = errors(case.text)
    assert error.where == f"{folder / 'config.yaml'}:{case.line}"
    assert error.key == case.key
    assert case.message in error.message
    assert case.hint in error.hint


def test_every_error_of_a_file_is_shown_in_file_order(errors: Errors) -> None:
    text = "default_model: x\nserver:\n  port: x\n  prot: 1\nmodels:\n  m: {ctx: x}\n"
    found = errors(text)
    assert [e.key for e in found] == [
        "default_model", "server.port", "server.prot", "models.m.ctx", "models.m"
    ]  # fmt: skip


def test_as_text_each_error_is_there_with_its_hint(folder: Path) -> None:
    file = folder / "c.yaml"
    file.write_text("port: 1\nserver: {port: x}\n")
    with pytest.raises(CollectedConfigError) as caught:
        load.read(file, {})
    assert str(caught.value) == (
        f"{file}:1: port: unknown key\n  hint: 'port' belongs under 'server'\n"
        f"{file}:2: server.port: must be a whole number, is 'x'\n"
        "  hint: write a number from 1 to 65535"
    )
    assert caught.value.message == "unknown key"  # as one error it speaks for the first


@pytest.mark.parametrize("text", ["sha256: geheim", "sha256: hp-geheim"])
def test_a_key_is_not_repeated(text: str, errors: Errors) -> None:
    assert "geheim" not in str(errors(f"server:\n  keys:\n  - name: a\n    {text}\n")[0])


def test_a_password_in_an_address_is_not_repeated(errors: Errors) -> None:
    assert "geheim" not in str(errors(MODEL + "upstream: http://u:geheim@h\n")[0])


# ------------------------------------------------------------------------ bounds


def test_a_hopeless_file_shows_only_so_many(errors: Errors) -> None:
    assert len(errors("".join(f"k{n}: 1\n" for n in range(200)))) == MAX_SHOWN


def test_copies_by_yaml_alias_are_bounded(errors: Errors) -> None:
    """300 models that are one mapping of 300 keys: small as text, 90 000 values when read."""
    many = "".join(f"      E{n}: x\n" for n in range(300))
    text = "models:\n  m0: &m\n    path: a.gguf\n    env:\n" + many
    text += "".join(f"  m{n}: *m\n" for n in range(1, 300))
    found = errors(text)
    assert found[0].message == "the file is too large"
    assert str(nodes.MAX_VISITS) in found[0].hint


def test_a_bomb_of_nested_aliases_is_never_unpacked(errors: Errors) -> None:
    lines = ["a: &a [x, x]"]
    lines += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi")]
    found = errors("\n".join(lines) + "\ndefault_model: *i\n")
    assert found[-1].message == "must be a single value (model), is a list"


def test_a_mapping_inside_itself_ends(errors: Errors) -> None:
    assert errors("models: &m\n  a: *m\n")[0].message == "unknown key"


def test_wide_lists_by_yaml_alias_are_bounded(errors: Errors) -> None:
    """The same with values that are no keys."""
    text = f"models:\n  m0: {{path: a.gguf, args: &x [{'x, ' * 900}]}}\n"
    text += "".join(f"  m{n}: {{path: a.gguf, args: *x}}\n" for n in range(1, 100))
    assert errors(text)[0].message == "the file is too large"


def test_repr_counts() -> None:
    problems = Problems("f.yaml")
    problems.add((), "wrong", "mend it")
    assert repr(problems) == "Problems('f.yaml', 1 found)"


# ------------------------------------------------------------------------ files


def test_a_named_file_that_is_missing(folder: Path) -> None:
    with pytest.raises(CollectedConfigError, match="no such file") as caught:
        load.settings(folder / "none.yaml", {})
    assert caught.value.where == str(folder / "none.yaml")
    assert "--config" in caught.value.hint


def test_a_file_named_by_the_environment_that_is_missing(folder: Path) -> None:
    with pytest.raises(CollectedConfigError, match="no such file"):
        load.settings(None, {"HOMEPORT_CONFIG": str(folder / "none.yaml")})


def test_a_folder_instead_of_a_file(folder: Path) -> None:
    with pytest.raises(CollectedConfigError, match="is a folder") as caught:
        load.settings(folder, {})
    assert caught.value.hint == f"name the file: {folder / 'config.yaml'}"


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # chmod would not stop root
    with pytest.raises(CollectedConfigError, match="cannot be read: Permission denied") as caught:
        load.read(folder / "a.gguf", {})
    assert caught.value.hint == "check its permissions"


def test_a_file_beyond_the_size_limit(folder: Path) -> None:
    (folder / "a.gguf").write_bytes(b"#" * (schema.FILE_BYTES + 1))
    with pytest.raises(CollectedConfigError, match="is too large") as caught:
        load.read(folder / "a.gguf", {})
    assert "is this the right file?" in caught.value.hint


# ------------------------------------------------------------------------ anything at all

WORDS = [*"[]{}&*!|>'\"#,~?%@`:::1a", "server", "models", "aliases", "keys", "port", "path", "name"]
WORDS += ["upstream", "&a", "*a", "<<:", "---", "..."]
BREAKS = ["\n", "\n  ", "\n    -"]
yaml_like = st.lists(st.sampled_from(WORDS + BREAKS), max_size=30).map(" ".join)


@given(data=st.binary(max_size=60) | yaml_like.map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_settings_or_our_error(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "any.yaml"
    file.write_bytes(data)
    try:
        load.read(file, {})
    except CollectedConfigError as error:
        found = error.errors
        assert all(e.hint and e.where.startswith(str(file)) for e in found)  # or none
