"""An event-stream reader that nobody here wrote gets just the events that the upstream sent."""

from __future__ import annotations

import aiohttp
from aiohttp_sse_client.client import EventSource  # type: ignore[import-untyped]  # it has no types
from kit import DONE, KEYS, Stage, events

SENT = [
    b": a comment before everything\n\n",
    b'data: {"n":1}\n\n',
    b"event: progress\nid: 7\ndata: two\ndata: lines\n\n",
    b": a comment between\n\n",
    b"event: named\r\nid: 8\r\ndata: with CRLF\r\n\r\n",
    b'retry: 3000\ndata: unicode \xe2\x82\xac and {"braces": [1.10]}\n\n',
    b"id\nevent\ndata:no space, and an id taken back\n\n",
    DONE,
]
EXPECTED = [
    (None, '{"n":1}', ""),
    ("progress", "two\nlines", "7"),
    ("named", "with CRLF", "8"),
    (None, 'unicode € and {"braces": [1.10]}', "8"),
    (None, "no space, and an id taken back", ""),
    (None, "[DONE]", ""),
]


async def test_the_reader_gets_the_upstreams_events(stage: Stage) -> None:
    """Names, ids and multi-line data survive; nothing is added and nothing is missing."""
    model = stage.model()
    model.a.replies(events(*SENT))
    async with (
        aiohttp.ClientSession() as session,
        EventSource(
            stage.url + "/v1/chat/completions",
            option={"method": "POST"},
            session=session,
            json=model.chat(stream=True),
            headers={"authorization": f"Bearer {KEYS['user']}"},
        ) as source,
    ):
        got = [await anext(source) for _ in EXPECTED]
    assert [(each.type, each.data, each.last_event_id) for each in got] == EXPECTED
