"""The embedded engine: llama.cpp's own HTTP server, from the xllamacpp package, as a process.

Takes the flags of ``llama-server`` that ``engines.llamacpp.embedded`` gives, and the key as
``LLAMA_API_KEY``. Says it is ready by ``/health``, is quiet but for warnings and errors, and ends
at once on SIGTERM: the signal's default action is right, for there is nothing to save. That it
never outlives the gateway is ``runtime.shim``'s doing.
"""

import argparse
import os
import signal
import sys

VERBOSITY = 2
"""llama.cpp's scale: 1 errors, 2 warnings too, 3 a page per start and lines per request."""
CACHE_RAM_MIB = 1024
"""Host memory for the KV state of conversations that lost their slot (llama.cpp's default: 8 GiB,
too much beside a model on a small machine)."""


def main(argv: list[str]) -> int:
    from xllamacpp import CommonParams, Server

    options = _parser().parse_args(argv)
    params = CommonParams()
    params.model.path = options.model
    params.hostnames = [options.host]
    params.port = options.port
    params.model_alias = {options.alias}
    params.n_ctx = options.ctx_size
    params.n_parallel = options.parallel
    params.embedding = options.embeddings
    if options.mmproj:
        params.mmproj.path = options.mmproj
    if options.ubatch_size:
        params.n_ubatch = options.ubatch_size
    if key := os.environ.get("LLAMA_API_KEY"):
        params.api_keys = [key]
    params.use_jinja = True
    params.endpoint_metrics = True
    params.endpoint_props = True
    params.endpoint_slots = True
    if options.slot_save_path:
        params.slot_save_path = os.path.join(
            options.slot_save_path, ""
        )  # joined with names as it is
    params.ui = False
    params.cache_ram_mib = int(os.environ.get("LLAMA_ARG_CACHE_RAM", CACHE_RAM_MIB))
    params.verbosity = VERBOSITY
    try:
        server = Server(params)  # returns when the model is loaded
    except RuntimeError as error:  # llama.cpp has said more on stderr
        print(f"llama.cpp did not start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    while server:  # kept alive; its threads do the work
        signal.pause()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="homeport.runtime.llamacpp_child", allow_abbrev=False)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--mmproj")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("-c", "--ctx-size", type=int, required=True)
    parser.add_argument("-np", "--parallel", type=int, required=True)
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("-ub", "--ubatch-size", type=int)
    parser.add_argument("--slot-save-path")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
