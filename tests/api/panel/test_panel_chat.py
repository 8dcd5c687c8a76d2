"""POST /api/ai/chat and /api/ai/studio, answered whole: section 6 of the contract, from the outside."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from kit import CLOSE, KEYS, UPSTREAM_WORDS, Stage, answer, events, raw
from kit.answers import DONE, TOOL_CALL, USAGE, delta, full, upstream_error
from panel_kit import CHAT, STUDIO, UNAVAILABLE, flat, post, talk

ROUTES = pytest.mark.parametrize("path", [CHAT, STUDIO])


def completion(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]} | more


# --- what goes up, what comes back


async def test_a_chat_is_answered_by_a_reply_and_nothing_else(panel: Stage) -> None:
    """`{"reply": "…"}`, with the gateway's own headers."""
    model = panel.model()
    reply = await post(panel, CHAT, talk(model))
    assert (reply.status, reply.json()) == (200, {"reply": "Hello from the fake upstream"})
    assert reply.header("x-gateway-model") == model.name
    assert len(reply.all("x-request-id")) == len(reply.all("content-type")) == len(reply.all("content-length")) == 1


async def test_a_conversation_goes_up_in_order(panel: Stage) -> None:
    """System prompt, history, message; the length that the operator allows; no name of the panel's."""
    model = panel.model()
    history = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ""},
    ]
    await post(panel, CHAT, talk(model, message="Three 😀?", systemPrompt="Be kind.", history=history))
    assert model.a.requests[0].json() == {
        "model": model.provider_name,
        "messages": [
            {"role": "system", "content": "Be kind."},
            *history,
            {"role": "user", "content": "Three 😀?"},
        ],
        "max_tokens": 321,
    }


async def test_members_that_are_null_or_unknown_are_let_be(panel: Stage) -> None:
    """A front end that sends more than it must is served, and none of that goes upstream."""
    model = panel.model()
    nulls = dict.fromkeys(["systemPrompt", "history", "stream", "maxTokens", "temperature"])
    assert (await post(panel, STUDIO, talk(model, conversationId=7, models=["x"], **nulls))).status == 200
    assert set(model.a.requests[0].json()) == {"model", "messages"}


async def test_the_studio_tells_more(panel: Stage) -> None:
    """Reply, the public name of the model, what was used, why it ended; and it takes more settings."""
    model = panel.model()
    reply = await post(panel, STUDIO, talk(model, maxTokens=55, temperature=0.5))
    assert reply.json() == {
        "reply": "Hello from the fake upstream",
        "model": model.name,
        "usage": USAGE,
        "finishReason": "stop",
    }
    asked = model.a.requests[0].json()
    assert (asked["max_tokens"], asked["temperature"]) == (55, 0.5)


async def test_the_studio_names_the_model_that_answered(panel: Stage) -> None:
    """Where a fallback serves, it is that one's name; usage that nobody reports is null, not invented."""
    panel.upstream.endpoint("proud").replies(answer(500))
    panel.upstream.endpoint("humble").replies(answer(200, completion({"content": "Here."}, "length")))
    reply = await post(panel, STUDIO, talk(modelId="id-proud"))
    assert reply.json() == {"reply": "Here.", "model": "humble", "usage": None, "finishReason": "length"}


@pytest.mark.parametrize(
    ("message", "finish", "said"),
    [
        ({"content": [{"type": "text", "text": "One, "}, {"type": "text", "text": "two."}]}, "stop", "One, two."),
        ({"content": None, "refusal": "I would rather not."}, "stop", "I would rather not."),
        ({"content": [{"type": "refusal", "refusal": "No."}]}, "stop", "No."),
        ({"content": None, "tool_calls": [TOOL_CALL]}, "tool_calls", "use a tool (weather)"),
        ({"content": "Let me look.", "tool_calls": [TOOL_CALL]}, "tool_calls", "Let me look."),
        ({"content": None, "function_call": {"name": "old", "arguments": "{}"}}, "function_call", "use a tool (old)"),
        ({"content": ""}, "stop", "no answer to this"),
        ({"content": " \n"}, "stop", "no answer to this"),
        ({"content": {"an": "object"}}, "stop", "no answer to this"),
        ({}, "content_filter", "content filter"),
        ({"content": None}, "length", "ran out of room"),
    ],
)
async def test_whatever_a_model_says_becomes_text(
    panel: Stage, message: dict[str, Any], finish: str, said: str
) -> None:
    """Parts are joined; tool calls, refusals and silence are put into words; nothing is null or a printed object."""
    model = panel.model()
    model.a.replies(answer(200, completion(message, finish)))
    reply = (await post(panel, CHAT, talk(model))).json()["reply"]
    assert said in reply
    assert "{" not in reply


async def test_an_answer_without_choices_and_one_with_half_a_character(panel: Stage) -> None:
    """No choice is silence; half a surrogate pair is shown as a replacement, not as a failure."""
    model = panel.model()
    halved = b'{"choices":[{"message":{"content":"Half: \\ud83d"}}]}'
    model.a.replies(answer(200, b'{"choices":[]}'), answer(200, halved))
    assert "no answer" in (await post(panel, CHAT, talk(model))).json()["reply"]
    assert (await post(panel, CHAT, talk(model))).json() == {"reply": "Half: \N{REPLACEMENT CHARACTER}"}


async def test_an_upstream_that_streams_or_compresses_unasked_is_understood(panel: Stage) -> None:
    """Nobody at a panel could make anything of an event stream or of gzip."""
    model = panel.model()
    packed = gzip.compress(json.dumps(completion({"content": "Unpacked."})).encode())
    model.a.replies(
        events(delta("Word "), delta("by word."), DONE), answer(200, packed, [("content-encoding", "gzip")])
    )
    assert (await post(panel, CHAT, talk(model))).json() == {"reply": "Word by word."}
    assert (await post(panel, CHAT, talk(model))).json() == {"reply": "Unpacked."}


# --- no model, no access


@pytest.mark.parametrize(("path", "more"), [(CHAT, {}), (STUDIO, {"model": None, "usage": None, "finishReason": None})])
async def test_a_caller_without_any_model_gets_a_friendly_reply(modest: Stage, path: str, more: dict[str, Any]) -> None:
    """200 with words that say so: a chat window shows them like any other answer."""
    reply = await post(modest, path, talk(), user="newcomer")
    assert reply.status == 200
    assert reply.json() == {"reply": reply.json()["reply"]} | more
    assert "administrator" in reply.json()["reply"]
    assert reply.header("x-request-id") is not None


@ROUTES
async def test_a_model_that_is_not_there_or_not_granted(modest: Stage, path: str) -> None:
    """A model that was asked for by id is not replaced by another."""
    assert flat(await post(modest, path, talk(modelId=77))) == (404, "model_not_found")
    assert flat(await post(modest, path, talk(modelId=4))) == (403, "model_not_accessible")


async def test_numbers_and_strings_are_the_same_id(modest: Stage) -> None:
    """`modelId` 2 and "2" mean one model."""
    for model_id in (2, "2"):
        assert (await post(modest, CHAT, talk(modelId=model_id))).header("x-gateway-model") == "shared"


# --- tiers


@pytest.mark.parametrize(
    ("user", "status"), [("free", 403), ("42", 200), ("rich", 200), ("nobody-knows-this-one", 403)]
)
async def test_the_studio_asks_for_a_tier(panel: Stage, user: str, status: int) -> None:
    """The tier is that of the user acted for; higher ones reach it as well, and one nobody knows has the lowest."""
    reply = await post(panel, STUDIO, talk(panel.model()), user=user)
    assert reply.status == status
    if status == 403:
        assert flat(reply) == (403, "tier_required")
        assert reply.json()["required"] == "paid"
    assert (await post(panel, CHAT, talk(panel.model()), user=user)).status == 200


async def test_the_tier_comes_before_the_body(panel: Stage) -> None:
    """What a caller may not do at all is said first."""
    assert flat(await post(panel, STUDIO, b"{", user="free")) == (403, "tier_required")


# --- bad bodies


@ROUTES
@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "empty"),
        (b"{", "JSON"),
        (b"[1]", "object"),
        (b'"text"', "object"),
        (b'{"message":"a","message":"b"}', '"message" is given twice'),
        (b'{"message":"\xff"}', "UTF-8"),
        (b'{"message":' + b"[" * 300 + b"]" * 300 + b"}", "deep"),
        ({}, "`message`"),
        ({"message": ""}, "`message`"),
        ({"message": None}, "`message`"),
        ({"message": ["a"]}, "`message`"),
        (talk(modelId=True), "`modelId`"),
        (talk(modelId=1.5), "`modelId`"),
        (talk(modelId={"id": 1}), "`modelId`"),
        (talk(systemPrompt=1), "`systemPrompt`"),
        (talk(stream="yes"), "`stream`"),
        (talk(history={}), "`history`"),
        (talk(history=["Hi"]), "`history[0]`"),
        (talk(history=[{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]), "`history[1].role`"),
        (talk(history=[{"role": "user", "content": "a"}, {"role": "user"}]), "`history[1]`"),
        (talk(history=[{"content": "a"}]), "`history[0]`"),
        (talk(history=[{"role": "assistant", "content": None}]), "`history[0].content`"),
        (talk(history=[{"role": "x" * 10_000, "content": "a"}]), "`history[0].role`"),
    ],
)
async def test_bad_bodies_are_refused_by_name(panel: Stage, path: str, body: Any, named: str) -> None:
    """400 that names the member, and for history the turn's index; nothing goes upstream."""
    reply = await post(panel, path, body)
    assert flat(reply) == (400, "invalid_request")
    assert named in reply.json()["message"]
    assert len(reply.json()["message"]) < 300


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperature": 2.1}, "`temperature`"),
        ({"temperature": -0.1}, "`temperature`"),
        ({"temperature": "hot"}, "`temperature`"),
        ({"maxTokens": 0}, "`maxTokens`"),
        ({"maxTokens": 1.5}, "`maxTokens`"),
        ({"maxTokens": "many"}, "`maxTokens`"),
    ],
)
async def test_the_studios_settings_have_bounds(panel: Stage, fields: dict[str, Any], named: str) -> None:
    """400 that names the setting."""
    reply = await post(panel, STUDIO, talk(**fields))
    assert flat(reply) == (400, "invalid_request")
    assert named in reply.json()["message"]


@pytest.mark.parametrize("temperature", [0, 2, 1.0])
async def test_the_bounds_of_temperature_are_within(panel: Stage, temperature: float) -> None:
    assert (await post(panel, STUDIO, talk(panel.model(), temperature=temperature))).status == 200


async def test_a_body_that_is_too_large(hasty: Stage) -> None:
    """The server's bound holds here as everywhere."""
    assert flat(await post(hasty, CHAT, talk(message="x" * (1 << 20)))) == (413, "request_too_large")


# --- failures


@ROUTES
@pytest.mark.parametrize(
    "behaviour",
    [
        upstream_error(500),
        upstream_error(401),
        upstream_error(429, retry_after="1"),
        upstream_error(400),
        upstream_error(404),
        upstream_error(422),
        answer(302, b"", [("location", "http://elsewhere.test/")]),
        answer(200, b"<html>busy</html>"),
        answer(200, b"[]"),
        answer(200, {"error": {"message": UPSTREAM_WORDS}}),
        answer(200, b"not gzip", [("content-encoding", "gzip")]),
        answer(200, b"who knows", [("content-encoding", "br")]),
        events(delta("Half an ans"), CLOSE),
        events(delta("Well, "), b'data: {"error":{"message":"%s"}}\n\n' % UPSTREAM_WORDS.encode()),
        raw(full(200, completion({"content": "Cut."}))[:-4], CLOSE),
    ],
    ids=str.split(
        "500 401 429 400 404 422 redirect html list error-object not-gzip brotli broken-stream error-event cut"
    ),
)
async def test_a_failed_upstream_is_told_kindly(panel: Stage, path: str, behaviour: Any) -> None:
    """502 with a reply to show, whatever went wrong up there, and none of the upstream's words."""
    model = panel.model()
    model.a.replies(behaviour)
    reply = await post(panel, path, talk(model))
    assert flat(reply) == (502, "ai_unavailable")
    assert reply.json()["reply"] == UNAVAILABLE
    assert UPSTREAM_WORDS.encode() not in reply.body
    assert len(reply.all("x-request-id")) == 1
    line = await panel.gateway.log(
        lambda each: each.get("request_id") == reply.header("x-request-id") and "path" in each
    )
    assert line["status"] == 502


async def test_limits_keep_their_codes(panel: Stage) -> None:
    """A caller can do something about these: wait, or see to a larger quota."""
    assert (await post(panel, CHAT, talk(modelId="id-rationed"))).status == 200
    refused = await post(panel, CHAT, talk(modelId="id-rationed"))
    assert flat(refused) == (429, "rate_limit_exceeded")
    assert 1 <= int(refused.header("retry-after") or 0) <= 60
    assert (await post(panel, CHAT, talk(modelId="id-spent"))).header("x-ratelimit-remaining-requests") == "0"
    refused = await post(panel, STUDIO, talk(modelId="id-spent"))
    assert flat(refused) == (429, "insufficient_quota")
    assert refused.header("x-should-retry") == "false"


async def test_a_model_that_is_full_is_overloaded(panel: Stage) -> None:
    """503 with its code: the model works, and there is room in a moment."""
    release = asyncio.Event()
    narrow = panel.upstream.endpoint("narrow").replies(raw(release, full(200, completion({"content": "Done."}))))
    first = asyncio.create_task(post(panel, CHAT, talk(modelId="id-narrow")))
    await narrow.request()
    assert flat(await post(panel, CHAT, talk(modelId="id-narrow"))) == (503, "overloaded")
    release.set()
    assert (await first).json() == {"reply": "Done."}


@ROUTES
async def test_keys_and_scopes(panel: Stage, path: str) -> None:
    """The same refusals as everywhere, in the panel's shape."""
    missing = await post(panel, path, b"{", key=None)
    assert flat(missing) == (401, "missing_api_key")
    assert missing.header("www-authenticate") == "Bearer"
    assert flat(await post(panel, path, b"{", key=KEYS["expired"])) == (401, "invalid_api_key")
    assert flat(await post(panel, path, b"{", key=KEYS["reader"])) == (403, "insufficient_scope")


@ROUTES
async def test_the_wrong_method(panel: Stage, path: str) -> None:
    """405 that names the right one, in the panel's shape."""
    reply = await panel.get(path)
    assert flat(reply) == (405, "method_not_allowed")
    assert reply.header("allow") == "POST"


# --- the studio, in OpenAI's shape

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}, "strict": True}}


async def test_the_studio_takes_messages_and_a_format(panel: Stage) -> None:
    """Both go up as they are: pictures, names, tools' results; in order behind the system prompt."""
    model = panel.model()
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Where is this?"}, PICTURE], "name": "ada"},
        {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
        {"role": "tool", "content": "Bern", "tool_call_id": "call_1"},
    ]
    body = {"modelId": f"id-{model.name}", "messages": messages, "response_format": FORMAT, "systemPrompt": "Be brief."}
    reply = await post(panel, STUDIO, body)
    assert (reply.status, reply.json()["model"]) == (200, model.name)
    asked = model.a.requests[0].json()
    assert asked["messages"] == [{"role": "system", "content": "Be brief."}, *messages]
    assert asked["response_format"] == FORMAT
    await post(panel, STUDIO, body | {"message": "And now?", "history": [{"role": "user", "content": "Hi"}]})
    told = model.a.requests[1].json()["messages"]
    assert told[1:] == [{"role": "user", "content": "Hi"}, *messages, {"role": "user", "content": "And now?"}]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"messages": []}, "`messages`"),
        ({"messages": "Hi"}, "`messages`"),
        ({"messages": ["Hi"]}, "`messages[0]`"),
        ({"messages": [{"content": "Hi"}]}, "`messages[0].role`"),
        ({"message": "Hi", "response_format": "json"}, "`response_format`"),
        ({"message": "Hi", "response_format": {"type": "xml"}}, "`response_format.type`"),
        ({"message": "Hi", "response_format": {"type": "json_schema"}}, "`response_format.json_schema`"),
    ],
)
async def test_what_is_not_in_openais_shape_is_refused_by_name(
    panel: Stage, fields: dict[str, Any], named: str
) -> None:
    reply = await post(panel, STUDIO, fields)
    assert flat(reply) == (400, "invalid_request")
    assert named in reply.json()["message"]
