"""The same calls by the official Node client, all of them by one process directly and by one through the gateway."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from conformance.library import Method
from conformance.served import CALLS as OF_PYTHON
from conformance.served import Seen, assert_same
from kit.gateway import KEYS, GatewayProcess

SCRIPT = Path(__file__).with_name("calls.mjs")
SECONDS = 120
# It has other methods under `beta`, and `content` alone for what this is.
CALLS = [each for each in OF_PYTHON if not each[0].name.startswith(("beta.", "files.retrieve_content"))]
Both = list[tuple[dict[str, Any], dict[str, Any]]]


def written(method: Method, *, stream: bool) -> bytes:
    """A call as the script reads it."""
    arguments = method.arguments() | ({"stream": True} if stream else {})
    ids = {name: arguments.pop(name) for name in method.segments}
    return json.dumps({"name": method.name, "ids": ids, "body": with_files(arguments)}).encode()


def with_files(value: Any) -> Any:
    """The Python library's pairs of name and content, as the script has them."""
    if isinstance(value, tuple):
        return {"$file": [value[0], value[1].decode()]}
    if isinstance(value, dict):
        return {name: with_files(inner) for name, inner in value.items()}
    return [with_files(inner) for inner in value] if isinstance(value, list) else value


async def answers(package: Path, url: str, key: str) -> list[dict[str, Any]]:
    calls = b"\n".join(written(method, stream=stream) for method, stream in CALLS)
    command = ["node", str(SCRIPT), str(package), url, key]
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    async with asyncio.timeout(SECONDS):
        output, errors = await running.communicate(calls)
    assert running.returncode == 0, errors.decode()
    return [json.loads(line) for line in output.splitlines()]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both(node_client: Path, mock_url: str, gateway: GatewayProcess) -> Both:
    direct = await answers(node_client, mock_url, "none")
    through = await answers(node_client, f"http://127.0.0.1:{gateway.port}/v1", KEYS["user"])
    return list(zip(direct, through, strict=True))


@pytest.mark.parametrize("place", range(len(CALLS)), ids=[method.name for method, _ in CALLS])
async def test_a_call_is_answered_through_the_gateway_as_directly(both: Both, place: int) -> None:
    direct, through = both[place]
    for found in (direct, through):
        assert not found.keys() & {"missing", "failed"}, found
    assert_same(CALLS[place][0], seen(direct), seen(through))


def seen(found: dict[str, Any]) -> Seen:
    return Seen(found["status"], base64.b64decode(found["content"]), found["headers"])
