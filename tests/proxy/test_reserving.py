"""What a request may use besides the tokens that it bounds, by its body; and the dearest that this may cost."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest

from gateway.dialects.base import Operation
from gateway.dialects.openai.operations import CHAT_COMPLETIONS, IMAGES, RESPONSES, SPEECH
from gateway.dialects.openai.operations.media import TRANSCRIPTIONS
from gateway.dialects.openai.request_body import read_body
from gateway.http.multipart import FormBody
from gateway.http.multipart.part import Part
from gateway.http.multipart.spool import Spool
from gateway.pricing import Besides, Price, ToolPrices, rate_card
from gateway.proxy.books.besides import besides_of


def of(operation: Operation, **fields: Any) -> Besides:
    return besides_of(operation, read_body(orjson.dumps(fields)))


def tools(*given: Any) -> list[Any]:
    return [{"type": each} if isinstance(each, str) else each for each in given]


@pytest.mark.parametrize(
    ("fields", "calls", "together"),
    [
        ({"tools": tools("web_search_preview_2025_03_11")}, {"web_search": 1}, 1),
        ({"tools": tools("file_search", "code_interpreter", "function")}, {"file_search": 1, "code_interpreter": 1}, 2),
        ({"tools": tools("web_search", "file_search"), "max_tool_calls": 5}, {"web_search": 5, "file_search": 5}, 5),
        ({"tools": tools("web_search"), "max_tool_calls": "3.0"}, {"web_search": 3}, 3),
        ({"tools": tools("web_search"), "max_tool_calls": 0}, {"web_search": 0}, 0),
        ({"tools": tools({"type": "web_search_20250305", "name": "web_search", "max_uses": 8})}, {"web_search": 8}, 8),
        ({"tools": tools("web_search", {"type": "web_search_20250305", "max_uses": 8})}, {"web_search": 9}, 9),
        ({"tools": tools("web_fetch_20250910", "code_execution_20250825")}, {"web_fetch": 1, "code_interpreter": 1}, 2),
        ({"web_search_options": {}}, {"web_search": 1}, 1),
        ({"tools": tools("web_search"), "max_tool_calls": 10**18}, {"web_search": 10_000}, 10_000),
        ({"tools": "web_search"}, {}, 0),
        ({"tools": [None, {"type": 3}, {"type": "custom"}]}, {}, 0),
    ],
)
def test_calls_of_hosted_tools_by_their_bound(fields: dict[str, Any], calls: dict[str, int], together: int) -> None:
    """Else one of each; a client's own functions cost nothing."""
    found = of(RESPONSES, input="x", **fields)
    assert (found.calls, found.most_calls) == (calls, together)


def test_images_by_their_number_and_quality() -> None:
    assert (of(IMAGES, n=3).images, of(IMAGES, n=3).made_tokens) == (3, 3 * 6_240)
    assert of(IMAGES, quality="low").made_tokens == 408
    assert of(IMAGES, quality="auto").made_tokens == 6_240
    assert of(RESPONSES, tools=tools("image_generation"), max_tool_calls=4).images == 4
    assert of(CHAT_COMPLETIONS, n=2).made_tokens == 0


def test_sound_by_its_size() -> None:
    """At 32 kbit/s: few send speech in fewer bytes. Sound that is made, by the characters that are read out."""
    parts = [Part("file", b"file", filename=b"a.mp3", size=400_001), Part("model", b"model", size=4)]
    assert besides_of(TRANSCRIPTIONS, FormBody(parts, {}, cast(Spool, None))).audio_seconds == 101
    heard = {"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "mp3"}}
    assert of(CHAT_COMPLETIONS, messages=[{"role": "user", "content": [heard]}]).audio_seconds in range(30, 32)
    spoken = of(SPEECH, input="Grüße")
    assert (spoken.characters, spoken.made_tokens, spoken.audio_seconds) == (5, 10, 0)


def test_all_of_it_at_the_dearest_price() -> None:
    """Of several tools the dearest is called first, as often as all together may be."""
    card = rate_card(
        Price(
            image=0.5,
            audio_minute=0.6,
            characters=2,
            request=0.25,
            output=4,
            tools=ToolPrices(web_search=0.01, file_search=0.03),
        )
    )
    wanted = Besides(2, 500_000, 90, {"web_search": 5, "file_search": 3}, 5, 250_000)
    assert card.dearest_nano(0, 0, 0, wanted) == 10**7 * (100 + 100 + 90 + 25 + 100 + 3 * 3 + 2)
    twice = wanted + wanted
    assert card.dearest_nano(0, 0, 0, twice, requests=2) == 2 * card.dearest_nano(0, 0, 0, wanted)


def test_a_tiers_tools_are_among_them() -> None:
    card = rate_card(Price(tools=ToolPrices(web_search=0.01), service_tiers={"priority": 3}))
    assert card.dearest_nano(0, 0, 0, Besides(calls={"web_search": 2}, most_calls=2)) == 60_000_000
