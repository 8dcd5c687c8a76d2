"""What of a client's query and headers reaches the upstream, and what of the upstream's headers reaches the client."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from kit import KEYS, Stage, Wire, request_bytes
from kit.answers import answer
from kit.stage import FreshModel, endpoint, model
from kit.upstream import Received

CHAT = "/v1/chat/completions"
# What the gateway writes itself into every request.
OWN = ["host", "content-type", "accept-encoding", "user-agent", "authorization", "accept", "via", "content-length"]


async def sent(stage: Stage, one: FreshModel, query: str = "", **headers: str) -> Received:
    """The request as it reached the upstream; `_` stands for `-` in the headers' names."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    reply = await stage.post(one.chat(), f"chat/completions{query}", headers=fields)
    assert reply.status == 200, reply
    return one.a.requests[-1]


# --- the query


@pytest.mark.parametrize("query", ["beta=true", "a=%20b&c", "include[]=x&include[]=y", "a=1&b=a%26b", "stream=&x"])
async def test_a_query_goes_up_as_it_was_written(stage: Stage, query: str) -> None:
    request = await sent(stage, stage.model(), f"?{query}")
    assert request.target.partition("?")[2] == query


@pytest.mark.parametrize(
    "field",
    [
        *("model=x", "modelId=1", "deployment=x", "key=k", "api_key=k", "api-version=1", "access_token=t"),
        *("MODEL=x", "%6dodel=x", "modelid=1", "Api%2DVersion=1", "api%5Fkey=k", "ACCESS_TOKEN=t", "%E2%84%AAey=k"),
        *("models=x", "Fallbacks=x", "provider=x", "r%6fute=x", "api_base=x"),
        *("model[]=x", "provider%5Border%5D=x", "x=1;model=y", "model", " model =x".replace(" ", "+")),
    ],
)
async def test_a_query_chooses_no_model_and_shows_no_key(stage: Stage, field: str) -> None:
    """Decoded and without case, as upstreams read it; refused fields are those of the body."""
    request = await sent(stage, stage.model(), f"?first=1&{field}&last=2")
    assert request.target.partition("?")[2] == "first=1&last=2"


async def test_a_name_goes_up_once(stage: Stage) -> None:
    """The first, by which the gateway goes as well; whoever reads the last would be asked for something else."""
    request = await sent(stage, stage.model(), "?order=asc&a=1&ORDER=desc&%6frder=x&a=2&&")
    assert request.target.partition("?")[2] == "order=asc&a=1"


async def test_a_key_goes_nowhere_under_whichever_name(stage: Stage) -> None:
    """Neither up nor, as the stage sees to it at its end, into the log."""
    key = KEYS["user"]
    request = await sent(
        stage, stage.model(), f"?token={key}&x={key.replace('-', '%2D')}&y=1", openai_beta=f"x {key}", accept=key
    )
    assert request.target.partition("?")[2] == "y=1"
    assert key not in request.head.decode()


async def test_nothing_but_the_rest_of_a_query_is_no_query(stage: Stage) -> None:
    request = await sent(stage, stage.model(), "?api-version=2024-10-21")
    assert "?" not in request.target


# --- headers


async def test_a_plain_request_brings_nothing_of_its_client(stage: Stage) -> None:
    one = stage.model()
    request = await sent(
        stage,
        one,
        cookie="a=b",
        x_stainless_lang="python",
        x_forwarded_for="1.2.3.4",
        user_agent="curl",
        x_api_key=KEYS["user"],
        te="trailers",
        openai_organization="org-x",
        anthropic_beta="x",
    )
    assert sorted(name for name, _ in request.headers) == sorted(OWN)
    assert request.header("accept") == "*/*"
    assert request.header("authorization") != f"Bearer {KEYS['user']}"


async def test_the_routes_own_headers_go_up(stage: Stage) -> None:
    given = {
        "accept": "application/json",
        "openai_beta": "assistants=v2",
        "x_client_request_id": "c-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
    }
    request = await sent(stage, stage.model(), **given)
    assert {name: request.header(name.replace("_", "-")) for name in given} == given
    assert len(request.headers) == len(dict(request.headers)), "none comes twice"


async def test_lines_of_one_header_are_joined(stage: Stage) -> None:
    one = stage.model()
    headers = [("openai-beta", "a=1"), ("OpenAI-Beta", "b=2"), ("x-client-request-id", "c"), ("accept", "")]
    assert (await stage.post(one.chat(), headers=headers)).status == 200
    request = one.a.requests[0]
    assert (request.header("openai-beta"), request.header("accept")) == ("a=1, b=2", "*/*")


async def test_an_idempotency_key_goes_up_as_a_hash(stage: Stage) -> None:
    """Of user, route and value: the callers share the provider's account, and must not get each other's answers."""
    one = stage.model()

    async def key_of(value: str, route: str = "chat/completions", **post: str) -> str | None:
        headers = [("idempotency-key", value)] + [(name.replace("_", "-"), text) for name, text in post.items()]
        key = KEYS["panel"] if post else KEYS["user"]
        assert (await stage.post(one.chat(input="x"), route, headers=headers, key=key)).status == 200
        return one.a.requests[-1].header("idempotency-key")

    first = await key_of("retry-1")
    assert first is not None
    assert "retry-1" not in first
    assert await key_of("retry-1") == first
    assert await key_of("retry-1", x_gateway_user="42") == first, "whom a panel acts for is the user"
    others = [
        await key_of("retry-2"),
        await key_of("retry-1", "embeddings"),
        await key_of("retry-1", x_gateway_user="7"),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("named", ["openai-beta, close", "OpenAI-Beta"])
async def test_what_connection_names_stays_here(stage: Stage, named: str) -> None:
    request = await sent(stage, stage.model(), connection=named, openai_beta="x", accept="a/b")
    assert request.header("openai-beta") is None
    assert request.header("accept") == "a/b"


async def test_heads_that_differ_on_one_connection(stage: Stage) -> None:
    """What is kept of a head belongs to this head alone."""
    one = stage.model()
    async with Wire.open(stage.port) as wire:
        for target, beta in ((CHAT, "a"), (f"{CHAT}?x=1", "b"), (CHAT, "a"), (CHAT, None), (f"{CHAT}?x=2", "b")):
            headers = [("openai-beta", beta)] if beta else []
            await wire.send(request_bytes("POST", target, one.chat(), key=KEYS["user"], headers=headers))
            assert (await wire.reply()).status == 200
            request = one.a.requests[-1]
            assert request.target.partition("?")[2] == target.partition("?")[2]
            assert request.header("openai-beta") == beta


async def test_panel_chat_brings_nothing_of_the_browser(stage: Stage) -> None:
    one = stage.model()
    body = {"message": "Hi", "modelId": f"id-{one.name}"}
    headers = [("accept", "text/event-stream"), ("idempotency-key", "x")]
    assert (await stage.post(body, "chat?x=1", prefix="/api/ai/", headers=headers)).status == 200
    request = one.a.requests[0]
    assert (request.header("accept"), request.header("idempotency-key")) == ("*/*", None)
    assert "?" not in request.target


async def test_the_proxy_route_passes_the_same(stage: Stage) -> None:
    one = stage.model()
    route = f"proxy/id-{one.name}/chat/completions?x=1&model=y"
    assert (await stage.post(one.chat(), route, prefix="/api/ai/", headers=[("openai-beta", "b")])).status == 200
    request = one.a.requests[0]
    assert (request.header("openai-beta"), request.target.partition("?")[2]) == ("b", "x=1")


# --- what an endpoint says


async def test_an_endpoints_own_settings_hold(tmp_path: Path) -> None:
    """Its query and headers before the client's; `pass_headers` lets further ones up, and never what may not go."""
    own = {
        "query": {"Api-Version": "7", "tier": "gold"},
        "headers": {"OpenAI-Beta": "ours", "x-team": "blue"},
        "pass_headers": ["X-Session-Id", "X-Team", "user-agent", "accept", "traceparent"],
    }
    async with Stage.open(tmp_path, lambda upstream: [model("m", [endpoint(upstream, "m.a", **own)])]) as stage:
        one = FreshModel("m", [stage.upstream.endpoint("m.a")])
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        given = {"openai_beta": "theirs", "x_team": "red", "x_session_id": "s1", "user_agent": "codex", "accept": "a/b"}
        request = await sent(stage, one, "?TIER=lead&api-version=1&x=1&tier[]=2", **given, traceparent=trace)
        assert parse_qsl(request.target.partition("?")[2]) == [("Api-Version", "7"), ("tier", "gold"), ("x", "1")]
        fields = dict(request.headers)
        assert len(request.headers) == len(fields), "none comes twice"
        shown = {name: fields[name] for name in ("openai-beta", "x-team", "x-session-id", "user-agent", "accept")}
        assert shown == {
            "openai-beta": "ours",
            "x-team": "blue",
            "x-session-id": "s1",
            "user-agent": "codex",
            "accept": "a/b",
        }
        request = await sent(stage, one, connection="x-session-id", x_session_id="s1")
        assert request.header("x-session-id") is None
        request = await sent(stage, one, x_session_id=f"is {KEYS['user']}")
        assert request.header("x-session-id") is None


# --- the answer's headers


async def test_of_an_answers_headers_only_these_pass(stage: Stage) -> None:
    one = stage.model()
    passed = {
        "content-language": "de",
        "content-disposition": 'attachment; filename="a.json"',
        "openai-processing-ms": "12",
        "openai-version": "2020-10-01",
    }
    others = {
        "x-ratelimit-limit-requests": "1",
        "x-ratelimit-remaining-tokens": "2",
        "openai-organization": "org-secret",
        "openai-project": "proj-secret",
        "set-cookie": "a=b",
        "server": "upstream",
        "server-timing": "db;dur=1",
        "via": "1.1 upstream",
        "retry-after": "1",
        "x-gateway-model": "spoofed",
        "access-control-allow-origin": "*",
        "strict-transport-security": "max-age=1",
        "alt-svc": "h3",
        "x-request-id": "req-1",
    }
    one.a.replies(answer(200, b'{"object":"x"}', [*passed.items(), *others.items()]))
    reply = await stage.post(one.chat())
    assert {name: reply.all(name) for name in passed} == {name: [value] for name, value in passed.items()}
    assert reply.all("x-upstream-request-id") == ["req-1"]
    assert reply.header("x-request-id") not in (None, "req-1")
    assert reply.all("x-gateway-model") == [one.name]
    assert reply.all("x-gateway-attempts") == ["1"]
    timing = reply.all("server-timing")
    assert len(timing) == 1
    assert timing[0].startswith("gateway;dur=")
    gone = set(others) - {"x-request-id", "x-gateway-model", "server-timing"}
    assert not gone & {name for name, _ in reply.headers}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ([("request-id", "r-1")], ["r-1"]),
        ([("request-id", "r-1"), ("x-request-id", "r-2")], ["r-1"]),
        ([("x-request-id", "r-1"), ("x-request-id", "r-2")], ["r-1"]),
        ([], []),
    ],
)
async def test_an_upstreams_request_id_has_a_name_of_its_own(
    stage: Stage, fields: list[tuple[str, str]], shown: list[str]
) -> None:
    one = stage.model()
    one.a.replies(answer(200, b'{"object":"x"}', fields))
    reply = await stage.post(one.chat())
    assert reply.all("x-upstream-request-id") == shown
    assert len(reply.all("x-request-id")) == 1
    assert "request-id" not in {name for name, _ in reply.headers}
