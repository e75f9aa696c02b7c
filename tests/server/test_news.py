"""News never wait for who reads them."""

from __future__ import annotations

import asyncio

from homeport.server.news import MAX_WAITING, News


async def test_who_does_not_keep_up_is_told_how_much_is_lost() -> None:
    news = News()
    with news.listen() as slow, news.listen() as quick:
        for n in range(MAX_WAITING + 3):
            news.reloaded((str(n),), (), ())
            dropped, (event,) = quick.take()
            assert (dropped, event.added) == (0, (str(n),))
        dropped, events = slow.take()
        assert dropped == 3
        assert [event.added for event in events] == [(str(n),) for n in range(3, MAX_WAITING + 3)]
        assert slow.take() == (0, [])


async def test_waiting_ends_with_the_next_event_only() -> None:
    news = News()
    with news.listen() as listener:
        news.reloaded((), (), ())
        await listener.wait()
        listener.take()
        waiting = asyncio.ensure_future(listener.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        news.reloaded((), (), ())
        await waiting
    news.reloaded((), (), ())  # nobody listens
    assert len(listener.take()[1]) == 1
