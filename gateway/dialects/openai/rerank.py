"""Read the usage of rerank answers, Jina's and Cohere's.

Jina, vLLM and others report `usage`, Cohere `meta.tokens` and `meta.billed_units`. Units of search are no tokens.
"""

from __future__ import annotations

import msgspec

from gateway.dialects.base import Contents, Usage, UsageReader
from gateway.dialects.openai.metering.answer_scan import JsonScan
from gateway.dialects.openai.metering.contents import contents_of
from gateway.dialects.openai.metering.usage_report import decoded, last_usage, read_report
from gateway.dialects.openai.payload import UNREADABLE


class _Answer(msgspec.Struct):
    meta: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Answer).decode


def rerank_contents(payload: bytes) -> Contents | None:
    """Read a whole rerank answer.

    Its texts are the documents that were sent, so they count as none of its own.
    """
    contents = contents_of(payload)
    if contents is None:
        return None
    return Contents(contents.usage or _usage_in_meta(payload), failed=contents.failed)


class RerankScan:
    """The same, of an answer too large to be decoded."""

    text_bytes = images = 0
    service_tier = tools = None

    def __init__(self) -> None:
        self._scans = (JsonScan(b'"meta"', _read_meta), JsonScan())

    @property
    def usage(self) -> Usage | None:
        in_meta, reported = self._scans
        return last_usage(in_meta.usage, reported.usage)

    def feed(self, data: bytes) -> None:
        for scan in self._scans:
            scan.feed(data)

    def end(self) -> None:
        for scan in self._scans:
            scan.end()

    def __repr__(self) -> str:
        return f"<RerankScan: {self.usage}>"


RERANK_USAGE_READER = UsageReader(contents=rerank_contents, scan=RerankScan, request_or_tokens=True)


def _usage_in_meta(payload: bytes) -> Usage | None:
    try:
        return _read_meta(decoded(_decode(payload).meta))
    except UNREADABLE:
        return None


def _read_meta(meta: object) -> Usage | None:
    if not isinstance(meta, dict):
        return None
    return read_report(meta.get("tokens")) or read_report(meta.get("billed_units"))
