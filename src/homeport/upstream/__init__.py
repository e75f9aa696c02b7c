"""The streaming HTTP/1.1 client to engines: open, relay, abort.

Ours, because it sits in the hot path: measured on this kind of machine it costs a third of aiohttp's
CPU a request and pyreqwest hops between threads for every streamed chunk (``docs/adr/0003``). Only
what talking to engines needs: keep-alive, chunked and length-delimited and until-close bodies,
back-pressure, timeouts, TLS. No redirects, cookies, proxies or compression.

``client`` has what callers use: a pool of connections, and an exchange of one request for its answer.
``connection`` has one connection: bytes, the parser, and who waits for them.
"""

from homeport.upstream.client import Client, Exchange, Head, head_of
from homeport.upstream.connection import LostError, Sink

__all__ = ["Client", "Exchange", "Head", "LostError", "Sink", "head_of"]
