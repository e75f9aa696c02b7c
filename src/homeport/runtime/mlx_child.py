"""``mlx_lm.server`` with what it lacks, as a process in MLX's own Python.

Run as a file, ``python mlx_child.py CONTEXT …``: what follows are the arguments of ``mlx_lm.server``,
CONTEXT is the longest prompt with its answer in tokens, 0 where nobody knows it. Nothing of homeport
is imported here, and Python 3.9 is enough. Added are:

1. A context. A prompt that does not fit is a 400 before anything is computed; an answer ends where
   the context does.
2. Exact counts, ``POST /v1/chat/completions/input_tokens`` as llama.cpp has it.
3. ``tool_choice``: ``none`` leaves the tools out; ``required``, or a tool by its name, begins the
   answer as a call (with the words of the model's own format), so that it is one. Without tools,
   what looks like a call is text: the client has forbidden them.
4. Nothing is computed for who has left. mlx_lm itself (0.32.2) notices it only when it writes, so
   never for a whole answer.
5. A key (``HOMEPORT_ENGINE_KEY``); readiness after the model was loaded, not before; an end of the
   process when its only thread that computes has died; 400, not 404, for a request that is wrong.

It reaches into mlx_lm, which changes. So each part is put on only where what it needs is there, and
is tried on the model before we say that we are ready: ``GET /props`` tells which ones hold. Without
any, this is ``mlx_lm.server`` as it comes.
"""

from __future__ import annotations

import hmac
import importlib
import json
import os
import socket
import sys
import threading
from queue import Empty
from types import SimpleNamespace
from typing import Any

COUNT_PATH = "/v1/chat/completions/input_tokens"
LOOK_S = 0.2
"""How often we look whether a client is still there, while nothing is computed for it."""

here = threading.local()
"""The request that a thread of the server is about: its ``connection``, whether it ``has_begun``, and
its stop ``words`` where it has no tools."""


def main(argv: list[str]) -> None:
    context, sys.argv = int(argv[0]) or None, ["mlx_lm.server", *argv[1:]]
    server = importlib.import_module("mlx_lm.server")
    try:
        extend(server, Known(context, os.environ.get("HOMEPORT_ENGINE_KEY")))
    except AttributeError as error:
        print(f"homeport does not know this mlx_lm ({error}): started as it is", file=sys.stderr)  # noqa: T201
    server.main()


class Known:
    """What we were told, and what came out when the parts were tried on the model."""

    def __init__(self, context: int | None, key: str | None) -> None:
        self.context, self.key = context, key
        self.aborts = self.counts = self.forces = False
        self.slots = 1
        self.is_tried = False
        self._lock = threading.Lock()

    def is_loaded(self, generator: Any) -> bool:
        """Whether the model is there; the first time that it is, the parts are tried on it."""
        provider = generator.model_provider
        if provider.tokenizer is None:
            return False
        with self._lock:
            if not self.is_tried:
                self._try(generator, provider)
                self.is_tried = True
        return True

    def _try(self, generator: Any, provider: Any) -> None:
        if self.context is None:
            told = getattr(getattr(provider.model, "args", None), "max_position_embeddings", None)
            self.context = told if isinstance(told, int) else None
        options = provider.cli_args
        is_batched = getattr(provider, "is_batchable", False)
        is_batched = is_batched and getattr(options, "kv_bits", None) is None
        self.slots = getattr(options, "decode_concurrency", 1) if is_batched else 1
        # One after the other, a prompt is read to its end before anybody looks.
        self.aborts = self.aborts and is_batched
        try:
            prompt, segments, state = parts_of(tokenized(generator, TRIAL))
            self.counts = True
            self.forces = bool(
                provider.tokenizer.has_tool_calling
                and state in ("normal", "reasoning")
                and [token for segment in segments for token in segment] == prompt
            )
        except Exception as error:
            print(f"homeport: not all is to be had of this mlx_lm: {error!r}", file=sys.stderr)  # noqa: T201


TRIAL = SimpleNamespace(
    request_type="chat",
    prompt="",
    messages=[{"role": "user", "content": "Hello"}],
    tools=None,
    role_mapping=None,
)


def tokenized(generator: Any, request: Any, template: Any = None) -> Any:
    """What mlx_lm makes of a request's prompt."""
    tokenizer = generator.model_provider.tokenizer
    return generator._tokenize(tokenizer, request, SimpleNamespace(chat_template_kwargs=template))


def parts_of(found: Any) -> tuple[list[int], list[list[int]], str]:
    """The tokens; the same in pieces; the state in which the answer begins. Older ones have the first
    alone."""
    if isinstance(found, tuple) and len(found) >= 4 and isinstance(found[3], str):
        return list(found[0]), found[1], found[3]
    return list(found[0] if isinstance(found, tuple) else found), [], ""


def extend(server: Any, known: Known) -> None:
    """Put our parts on ``mlx_lm.server``. Raises ``AttributeError``, before anything is changed, where
    that is another one than we know."""
    handler, generator = server.APIHandler, server.ResponseGenerator
    get, post = handler.do_GET, handler.do_POST
    start, complete, ask = (
        generator.__init__,
        handler.handle_completion,
        handler.handle_chat_completions,
    )
    headers, tokenize = handler._set_completion_headers, generator._tokenize

    # ------------------------------------------------------------------- routes

    def do_get(self: Any) -> None:
        if not may_enter(self):
            return
        path = self.path.partition("?")[0]
        is_loaded = known.is_loaded(self.response_generator)
        if path == "/health" and not is_loaded:
            say(self, 503, {"error": "the model is being loaded"})
        elif path == "/props" and is_loaded:
            parts = {"counts": known.counts, "forces_calls": known.forces, "aborts": known.aborts}
            say(self, 200, {"build_info": server.__version__, "homeport": parts})
        elif path == "/v1/models" and is_loaded:
            options = self.response_generator.cli_args
            name = "default_model" if options.adapter_path else options.model
            told = {"max_model_len": known.context, "slots": known.slots}
            model = {"id": name, "object": "model", "owned_by": "mlx_lm", "created": self.created}
            say(self, 200, {"object": "list", "data": [{**model, **told}]})
        else:
            get(self)

    def do_post(self: Any) -> None:
        if not may_enter(self):
            return
        if self.path == COUNT_PATH and known.is_loaded(self.response_generator):
            count(self)
        else:
            post(self)

    def may_enter(self: Any) -> bool:
        given = self.headers.get("Authorization", "").encode()
        if known.key is None or hmac.compare_digest(given, b"Bearer " + known.key.encode()):
            return True
        say(self, 401, {"error": "the key is wrong"})
        return False

    def count(self: Any) -> None:
        try:
            self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.stream = False
            request = chat(self)
            found = tokenized(
                self.response_generator, request, self.body.get("chat_template_kwargs")
            )
            say(self, 200, {"input_tokens": len(parts_of(found)[0])})
        except Exception as error:
            say(self, 400, {"error": str(error)})

    def say(self: Any, status: int, value: Any) -> None:
        body = json.dumps(value).encode()
        headers(self, status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def completion_headers(self: Any, status: int = 200) -> None:
        is_wrong = status == 404 and self.path in ("/v1/chat/completions", "/v1/completions")
        headers(self, 400 if is_wrong else status)

    # ------------------------------------------------------------------- one request

    def chat(self: Any) -> Any:
        request = ask(self)
        tools, must_call = chosen(request.tools or [], self.body.get("tool_choice"))
        if must_call and not known.forces:
            raise ValueError("tool_choice: this model cannot be made to call a tool here; use auto")
        request.tools, request.must_call = tools or None, must_call
        return request

    def completion(self: Any, request: Any, stop_words: Any) -> None:
        if known.context is not None and known.is_loaded(self.response_generator):
            try:
                found = tokenized(self.response_generator, request, self.chat_template_kwargs)
            except Exception:
                found = []  # the same will be said again, and answered
            left = known.context - len(parts_of(found)[0])
            if left < 1:
                say(self, 400, {"error": overflow(known.context - left, known.context)})
                return
            self.max_tokens = min(self.max_tokens, left)
        here.connection, here.has_begun = self.connection, False
        here.words = stop_words if request.request_type == "chat" and not request.tools else None
        try:
            complete(self, request, stop_words)
        except ConnectionError:
            pass  # the client has left
        finally:
            here.connection = None

    def tokenize_as_chosen(self: Any, tokenizer: Any, request: Any, *args: Any) -> Any:
        found = tokenize(self, tokenizer, request, *args)
        if not getattr(request, "must_call", False):
            return found
        prompt, segments, state = parts_of(found)
        opening = (tokenizer.think_end if state == "reasoning" else "") + tokenizer.tool_call_start
        begun = tokenizer.encode(opening, add_special_tokens=False)
        segments = [*segments[:-1], [*segments[-1], *begun]]
        return (prompt + begun, segments, found[2], "tool", *found[4:])

    # ------------------------------------------------------------------- while it is computed

    def await_response(self: Any, answers: Any) -> Any:
        """The next piece of an answer, as long as there is somebody to send it to. Who leaves before
        his turn has come waits for it, and is taken off then: a request has no handle before."""
        while True:
            if here.has_begun and has_left(here.connection):
                raise ConnectionAbortedError
            try:
                piece = answers.get(timeout=LOOK_S)
            except Empty:
                if not self.generation_available():
                    raise RuntimeError("the thread that computes has died") from None
                continue
            if not here.has_begun and hasattr(piece, "stop"):
                begin(self, piece)
            here.has_begun = True
            return piece

    def begin(self: Any, handle: Any) -> None:
        if has_left(here.connection):
            handle.stop()
        if here.words is not None and hasattr(handle, "text_sm"):
            plain = Toolless(self.model_provider.tokenizer)
            handle.text_sm = server.make_text_state_machine(plain, here.words)

    def start_watched(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        threading.Thread(target=end_with, args=(self,), daemon=True).start()

    handler.do_GET, handler.do_POST = do_get, do_post
    handler._set_completion_headers = completion_headers
    handler.handle_chat_completions, handler.handle_completion = chat, completion
    generator._tokenize = tokenize_as_chosen
    if hasattr(generator, "_await_response"):
        generator._await_response, known.aborts = await_response, True
    if hasattr(generator, "join"):
        generator.__init__ = start_watched


class Toolless:
    """A model's tokenizer, of a model that knows no calls."""

    has_tool_calling = False

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def chosen(tools: list[Any], choice: Any) -> tuple[list[Any], bool]:
    """The tools that the model shall see, and whether it has to call one. Raises ``ValueError``."""
    if choice in (None, "auto"):
        return tools, False
    if choice == "none":
        return [], False
    if choice == "required":
        return tools, bool(tools)
    name = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    tools = [tool for tool in tools if tool.get("function", {}).get("name") == name]
    if name is None or not tools:
        raise ValueError(f"tool_choice: no tool is meant by {json.dumps(choice)}")
    return tools, True


def overflow(prompt: int, context: int) -> dict[str, Any]:
    """In llama.cpp's shape, whose clients know it."""
    return {
        "code": 400,
        "message": f"request ({prompt} tokens) exceeds the available context size ({context} tokens)",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": prompt,
        "n_ctx": context,
    }


def has_left(connection: Any) -> bool:
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False  # there, and silent
    except OSError:
        return True


def end_with(generator: Any) -> None:
    """Without that thread nothing is answered any more, and mlx_lm would go on listening."""
    generator.join()
    if not generator._stop:
        os._exit(1)


if __name__ == "__main__":
    sys.path.pop(0)  # our own folder: its modules are homeport's, not top-level ones
    main(sys.argv[1:])
