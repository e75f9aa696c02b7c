"""A scripted engine: llama.cpp's OpenAI chat surface, with every fault on demand.

Runs as a process of its own, so that sockets, signals and exit codes are real: `python` on this
folder, or on a copy of it. Standard library only: it must start in a few tens of milliseconds and must
not share code with what it tests.

`script` says what a request gets; `completion` and `response` give that a form, and `engine` performs
it. `request`, `reply` and `journal` are what it stands on, `process` is its command line.

Control plane: `GET /_fake/requests`, `POST /_fake/script`, `POST /_fake/reset`,
`GET /_fake/wait?event=MARK&count=N&timeout=S[&path=SUFFIX]`.

Marks, in seconds since the request came: `request` (read whole), `headers` (ours are out), `first`
(first body byte is out), `blocked` (the client stopped reading), `finish` (answered to the end as
scripted), `disconnect` (the client left before that), `dropped` (we closed on it unanswered).
"""
