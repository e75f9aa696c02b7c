"""Every request that came, and marks for what became of it. Tests wait on marks, and do not sleep."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from dataclasses import dataclass, field

from tests.support.fake_engine.request import Request
from tests.support.fake_engine.script import Json


@dataclass
class Record:
    """One request and what became of it."""

    n: int
    connection: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Json
    arrived: float
    status: int | None = None
    events_sent: int = 0
    bytes_sent: int = 0
    marks: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> Json:
        shown = dataclasses.asdict(self)
        del shown["arrived"]
        return {**shown, "disconnected": "disconnect" in self.marks}


class Journal:
    """All requests in order of arrival, and a way to wait until marks appear."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._news = asyncio.Event()

    def open(self, connection: int, request: Request) -> Record:
        record = Record(
            n=len(self.records),
            connection=connection,
            method=request.method,
            path=request.path,
            query=request.query,
            headers=request.headers,
            body=request.json_or_text(),
            arrived=time.monotonic(),
        )
        self.records.append(record)
        self.mark(record, "request")
        return record

    def mark(self, record: Record, name: str) -> None:
        record.marks.setdefault(name, round(time.monotonic() - record.arrived, 6))
        self._news.set()
        self._news = asyncio.Event()

    def count(self, mark: str, path_suffix: str) -> int:
        marked = (r for r in self.records if mark in r.marks)
        return sum(r.path.endswith(path_suffix) for r in marked)

    async def wait(self, mark: str, count: int, path_suffix: str, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.count(mark, path_suffix) < count:
                    await self._news.wait()
        return self.count(mark, path_suffix) >= count
