"""What upstreams keep of answers: responses, chat completions, conversations."""

from __future__ import annotations

from gateway.dialects.base import Learnt, ListRules
from gateway.dialects.openai.operations.parts import EVENTS, JSON, RESPONSE_EVENTS, kept, makes
from gateway.dialects.openai.operations.positions import CONTENT_PINS, ITEM_IDS, ITEM_PINS, RESPONSE_IDS, RESPONSE_PINS

_METADATA = {"metadata": {"topic": "demo"}}
_ITEMS = {"items": [{"type": "message", "role": "user", "content": "Hello!"}]}
_RESPONSE = (Learnt(RESPONSE_IDS),)

STORED_ROWS = (
    kept(
        "GET",
        "/responses/{response_id}",
        "A response, also as the stream that it was",
        learns=_RESPONSE,
        events=RESPONSE_EVENTS,
        media=(JSON, EVENTS),
    ),
    kept("DELETE", "/responses/{response_id}", "Delete a response", deletes=True),
    kept("POST", "/responses/{response_id}/cancel", "Cancel a response in the background", learns=_RESPONSE),
    kept("GET", "/responses/{response_id}/input_items", "What a response was made from", learns=(Learnt(ITEM_IDS),)),
    kept(
        "POST",
        "/responses/input_tokens",
        "How many tokens a request would take",
        example={"model": "gpt-4o", "input": "Hello!"},
        model="names",
        is_text=True,
        pins=RESPONSE_PINS,
        content_pins=CONTENT_PINS,
    ),
    kept(
        "GET",
        "/chat/completions",
        "Stored chat completions",
        lists=ListRules(
            kind="chat.completion",
            most=100,
            usual=20,
            newest_first=False,
            filters=("model", "metadata"),
            unfinished=(),
        ),
    ),
    kept("GET", "/chat/completions/{completion_id}", "A stored chat completion", learns=makes("chat.completion")),
    kept(
        "POST",
        "/chat/completions/{completion_id}",
        "Change a stored chat completion's metadata",
        example=_METADATA,
        learns=makes("chat.completion"),
    ),
    kept("DELETE", "/chat/completions/{completion_id}", "Delete a stored chat completion", deletes=True),
    kept("GET", "/chat/completions/{completion_id}/messages", "The messages of a stored chat completion"),
    kept(
        "POST",
        "/conversations",
        "Begin a conversation",
        example=_METADATA,
        pins=ITEM_PINS,
        learns=makes("conversation"),
    ),
    kept("GET", "/conversations/{conversation_id}", "A conversation", learns=makes("conversation")),
    kept(
        "POST",
        "/conversations/{conversation_id}",
        "Change a conversation's metadata",
        example=_METADATA,
        learns=makes("conversation"),
    ),
    kept("DELETE", "/conversations/{conversation_id}", "Delete a conversation", deletes=True),
    kept(
        "POST",
        "/conversations/{conversation_id}/items",
        "Add items to a conversation",
        example=_ITEMS,
        pins=ITEM_PINS,
        learns=(Learnt(ITEM_IDS),),
    ),
    kept("GET", "/conversations/{conversation_id}/items", "The items of a conversation", learns=(Learnt(ITEM_IDS),)),
    kept("GET", "/conversations/{conversation_id}/items/{item_id}", "An item of a conversation"),
    kept("DELETE", "/conversations/{conversation_id}/items/{item_id}", "Delete an item of a conversation"),
)
