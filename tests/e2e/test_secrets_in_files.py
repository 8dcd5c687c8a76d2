"""Secrets that files hold are watched: one that is rotated holds without a restart (contract §2)."""

from __future__ import annotations

from pathlib import Path

from kit import FakeUpstream, GatewayProcess, Wire, as_openai, ask, config, request_bytes
from kit.books import until
from kit.stage import endpoint, model

OLD, NEW = "sk-old-0123456789abcdefghijkl", "sk-new-0123456789abcdefghijkl"


async def chat(gateway: GatewayProcess, key: str) -> int:
    async with Wire.open(gateway.port) as wire:
        await wire.send(request_bytes("POST", "/v1/chat/completions", ask("m"), key=key))
        return (await wire.reply()).status


async def test_keys_and_credentials_of_files_are_rotated(tmp_path: Path) -> None:
    """A client's key and an upstream's, written anew; a header behind a link that is swapped, as Kubernetes does."""
    for name in ("client", "upstream"):
        (tmp_path / name).write_text(f"{OLD}\n")
    (tmp_path / "first").write_text(OLD)
    (tmp_path / "second").write_text(NEW)
    (tmp_path / "link").symlink_to("first")
    upstream = await FakeUpstream.start(as_openai())
    try:
        one = endpoint(upstream, "m") | {"api_key": "${file:upstream}", "headers": {"x-team": "${file:link}"}}
        whole = config([model("m", [one])])
        whole["keys"].append({"id": "filed", "user": 42, "key": "${file:client}"})
        async with GatewayProcess.start(whole, tmp_path) as gateway:
            assert (await chat(gateway, OLD), await chat(gateway, NEW)) == (200, 401)
            for name in ("client", "upstream"):
                (tmp_path / name).write_text(f"{NEW}\n")
            (tmp_path / "new-link").symlink_to("second")
            (tmp_path / "new-link").rename(tmp_path / "link")

            async def is_rotated() -> bool:
                if await chat(gateway, NEW) != 200:
                    return False
                seen = upstream.endpoint("m").requests[-1].head
                return f"Bearer {NEW}".encode() in seen and f"x-team: {NEW}".encode() in seen

            await until(is_rotated)
            assert await chat(gateway, OLD) == 401
            assert OLD not in gateway.output()
            assert NEW not in gateway.output()
    finally:
        await upstream.close()
