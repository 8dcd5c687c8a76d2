"""Where requests and answers of responses, conversations and their items name objects."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.dialects.references import Position, Positions, is_alone, is_of_type


def _of_tool(tool: str) -> Iterator[Position]:
    """What a tool works with."""
    yield Position(f"{tool}.container", "container")
    yield Position(f"{tool}.container.file_ids[]", "file")
    yield Position(f"{tool}.vector_store_ids[]", "vector_store")
    yield Position(f"{tool}.input_image_mask.file_id", "file")
    yield Position(f"{tool}.environment.container_id", "container")
    yield Position(f"{tool}.environment.file_ids[]", "file")
    yield Position(f"{tool}.environment.skills[].skill_id", "skill")


def _of_item(item: str) -> Iterator[Position]:
    """What an item of a conversation holds.

    Its own id counts only where it is no more than a reference.
    """
    yield Position(f"{item}.id", "item", is_alone)
    for part in ("content[]", "output[]", "output"):
        yield Position(f"{item}.{part}.file_id", "file")
    yield from _of_tool(f"{item}.tools[]")


def _item_ids(item: str) -> Iterator[Position]:
    """What an item that the upstream keeps brings."""
    yield Position(f"{item}.id", "item")
    yield Position(f"{item}.container_id", "container")


def _response_ids(response: str) -> Iterator[Position]:
    yield Position(f"{response}id", "response")
    yield Position(f"{response}conversation.id", "conversation")
    yield from _item_ids(f"{response}output[]")


ITEM_PINS = Positions(_of_item("items[]"))
RESPONSE_PINS = Positions(
    (
        Position("previous_response_id", "response"),
        Position("conversation", "conversation"),
        Position("conversation.id", "conversation"),
        *_of_item("input[]"),
        *_of_tool("tools[]"),
    )
)
# Of a whole answer, and of the events that tell of the response or of one of its items.
RESPONSE_IDS = Positions((*_response_ids(""), *_response_ids("response."), *_item_ids("item")))
ITEM_IDS = Positions((*_item_ids("data[]"), Position("id", "item", lambda item: item.get("object") is None)))
CONTENT_PINS = Positions((Position("input[].encrypted_content", "content"),))
CONTENTS = Positions(
    Position(f"{where}.encrypted_content", "content") for where in ("output[]", "response.output[]", "item")
)
DATA_SOURCE_PINS = Positions((Position("data_source.source.id", "file", is_of_type("file_id")),))
