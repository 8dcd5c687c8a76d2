"""Sessions of speech and text: each response is a request."""

from __future__ import annotations

from gateway.dialects.base import AnswerFields
from gateway.dialects.openai.operations.parts import JSON, relayed

REALTIME = relayed(
    method="GET",
    path="/realtime",
    name="Realtime",
    kind="realtime",
    summary="A session of speech and text",
    body=None,
    is_text=False,
    has_fallbacks=True,
    answer=AnswerFields(bounds=("max_output_tokens", "max_response_output_tokens"), repeats=(), prompts=""),
    request=None,
    media=(JSON,),
)
