"""What recorded usage reports count, as the table in docs/money.md says it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.metering.contents import contents_of, transcript_contents
from gateway.dialects.openai.metering.made_usage import image_contents, speech_contents
from gateway.dialects.openai.metering.usage_report import usage_of
from gateway.pricing import Usage
from gateway.pricing.rates import quantities

PAGE = Path(__file__).parents[2] / "docs" / "money.md"
ROW = re.compile(r"^\| ([^|`]+) \| `(\{.+\})` \| (.+) \|$", re.MULTILINE)


def rows() -> Iterator[tuple[str, str, dict[str, int]]]:
    for upstream, report, counts in ROW.findall(PAGE.read_text(encoding="utf-8")):
        told = (each.rpartition(" ") for each in counts.split(", "))
        yield upstream, report, {name: int(count) for name, _, count in told}


def counted(usage: Usage | None) -> dict[str, float]:
    assert usage is not None
    found = {name: int(count) for name, count in quantities(usage, requests=0).items() if count}
    seconds = found.pop("audio_minute", None)
    return found if seconds is None else found | {"audio seconds": seconds}


@pytest.mark.parametrize(("upstream", "report", "counts"), list(rows()))
def test_a_report_counts_as_the_page_says(upstream: str, report: str, counts: dict[str, int]) -> None:
    """As a whole answer, in an event, and within a response."""
    for body in (f'{{"usage":{report}}}', f'{{"type":"x","response":{{"usage":{report}}}}}'):
        assert counted(usage_of(body.encode())) == counts
        contents = contents_of(body.encode())
        assert contents is not None
        assert counted(contents.usage) == counts
    assert counted(usage_of(json.loads(f'{{"usage":{report}}}'))) == counts


def test_the_table_is_there() -> None:
    assert len(list(rows())) >= 20


def test_images_and_speech_are_what_is_made() -> None:
    """An output of plain tokens is of the route's kind; images are counted by their entries."""
    image = image_contents(b'{"data":[{"b64_json":"x"},{"url":"y"}],"usage":{"input_tokens":5,"output_tokens":100}}')
    assert image is not None
    assert image.images == 2
    assert counted(image.usage) == {"input": 5, "image_output": 100}
    event = image_contents(b'{"type":"image_generation.completed","b64_json":"x","usage":{"output_tokens":7}}')
    partial = image_contents(b'{"type":"image_generation.partial_image","b64_json":"x"}')
    assert event is not None
    assert partial is not None
    assert (event.images, partial.images) == (1, 0)
    speech = speech_contents(b'{"type":"speech.audio.done","usage":{"input_tokens":5,"output_tokens":100}}')
    assert speech is not None
    assert counted(speech.usage) == {"input": 5, "audio_output": 100}


def test_seconds_of_a_verbose_transcript_count_where_no_usage_does() -> None:
    plain = transcript_contents(b'{"text":"hm","duration":"8.47"}')
    reported = transcript_contents(b'{"text":"hm","duration":8.47,"usage":{"type":"duration","seconds":9}}')
    assert plain is not None
    assert reported is not None
    assert counted(plain.usage) == {"audio seconds": 8}
    assert counted(reported.usage) == {"audio seconds": 9}
    spaced = transcript_contents(rb'{"text":"hm","duration":"8.47\u001f"}')
    assert spaced is not None
    assert counted(spaced.usage) == {"audio seconds": 8}


def test_calls_of_tools_and_the_tier_stand_beside_the_usage() -> None:
    """Also where a count in the report is malformed, and in an answer too large to be decoded."""
    calls = '{"type":"web_search_call","id":"w"},{"type":"file_search_call"},{"type":"web_search_call"}'
    for count in ("5", '"five"'):
        body = f'{{"service_tier":"flex","output":[{calls}],"usage":{{"input_tokens":9,"output_tokens":{count}}}}}'
        contents = contents_of(body.encode())
        assert contents is not None
        assert contents.service_tier == "flex"
        assert contents.tools is not None
        assert contents.tools[:2] == (2, 1)
        assert contents.usage is not None
        assert contents.usage.prompt_tokens == 9


def test_an_answer_too_large_to_be_decoded_has_them_too() -> None:
    """At every split of the bytes: calls, images and tier; what is within a text does not count."""
    quoted = json.dumps('"type":"web_search_call"')
    body = (
        f'{{"output":[{{"type":"web_search_call"}},{{"text":{quoted}}},{{"type" : "code_interpreter_call"}},'
        '{"type":"image_generation_call"}],"service_tier":"flex","usage":{"input_tokens":3,"output_tokens":4}}'
    ).encode()
    for split in range(len(body)):
        scan = JsonScan()
        scan.feed(body[:split])
        scan.feed(body[split:])
        scan.end()
        assert scan.tools == (1, 0, 1, 0), split
        assert (scan.images, scan.service_tier) == (1, "flex"), split
        assert counted(scan.usage) == {"input": 3, "output": 4}
