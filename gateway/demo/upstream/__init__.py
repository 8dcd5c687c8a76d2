"""An upstream that answers every relayed route without a model.

loopback.py        the application: base paths, routes, errors; a flaky twin that answers 429 sometimes
desk.py            what it keeps, within bounds            bodies.py  requests read, answers and events written
words.py           its fixed words, and how they are counted
invented.py        tool calls and values that a JSON schema asks for
messages.py        messages and token counts, Anthropic's protocol
chat.py            chat completions (stored ones too) and completions
responses.py       responses: stored, chained, in the background; response_shapes.py: items and events
spoken.py          both WebSockets: responses on lanes, realtime in text
numbers.py         embeddings, moderations, rerank
pictures.py        images; a small PNG                     sounds.py  speech, transcriptions; a small WAV
objects/           files and uploads, batches (whose lines it answers itself), vector stores, conversations
"""

from gateway.demo.upstream.loopback import loopback_upstream
from gateway.demo.upstream.words import MODEL

__all__ = ["MODEL", "loopback_upstream"]
