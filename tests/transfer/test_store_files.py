"""`gateway store export` and `import`: a stable format, validated line by line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cli.cli_kit import ROOT, Done, command
from store.grants_kit import KEY, KEY_SHA256, SECRET, RedisServer
from transfer_kit import embedded, on_redis

HEAD = '{"format":"ecli-gateway-store","version":1,"made":"2027-01-01T00:00:00Z","from":"a test"}'


def key_line(number: int, **fields: Any) -> str:
    return json.dumps({"kind": "key", "id": f"{number:064x}", "value": {"id": f"k{number}", "user": 42} | fields})


def file_of(*lines: str) -> str:
    return "\n".join([HEAD, *lines, json.dumps({"end": True, "lines": len(lines)})]) + "\n"


async def imported(directory: Path, text: str, *options: str) -> Done:
    (directory / "in.jsonl").write_text(text)
    return await command("store", "import", "in.jsonl", "--to", "data", *options, cwd=directory)


async def keys_of(directory: Path) -> list[str]:
    async with embedded(directory / "data") as store:
        return await store.records.ids("key")


async def test_out_and_in_again_everything_is_as_it_was(tmp_path: Path, redis_server: RedisServer) -> None:
    """From an embedded store beside its gateway, into Redis, out of it by standard output, and back."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        before = await store.content()
        exported = await command("store", "export", "a.jsonl", "--from", "data", cwd=tmp_path)  # it is held just now
    assert (exported.code, exported.out) == (0, "")
    assert "API keys are in it as hashes alone." in exported.err
    assert "1 model in it may bear credentials of upstreams" in exported.err
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "a.jsonl").read_text()
    assert KEY_SHA256 in text
    assert KEY not in text
    assert SECRET in text  # which the warning is about
    taken = await command("store", "import", "a.jsonl", "--to", redis_server.url, cwd=tmp_path)
    assert (taken.code, taken.err) == (0, "")
    async with on_redis(redis_server) as store:
        assert parsed(await store.content()) == parsed(before)
    shown = await command("store", "export", "--from", redis_server.url, cwd=tmp_path)
    back = await imported(tmp_path, shown.out)
    assert (back.code, back.err) == (0, "")
    async with embedded(tmp_path / "data") as store:
        assert await store.content() == before  # it was alike, but for the line ends between tokens


def parsed(content: dict[str, Any]) -> dict[str, Any]:
    """With documents as values: a line of JSON lines has no line ends within."""
    records = {each: json.loads(value) for each, value in content["records"].items()}
    return content | {"records": records}


async def test_each_line_of_the_format(tmp_path: Path) -> None:
    """As docs/operations.md shows it: whoever reads it elsewhere may rely on that."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
        await store.records.put("org", "11", b"\xff no JSON")
    done = await command("store", "export", "--from", "data", cwd=tmp_path)
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert set(lines[0]) == {"format", "version", "made", "from"}
    assert (lines[0]["format"], lines[0]["version"]) == ("ecli-gateway-store", 1)
    assert lines[-1] == {"end": True, "lines": len(lines) - 2}
    found = {(line["kind"], line["id"]): line for line in lines[1:-1]}
    assert found["feature", "ai"] == {"kind": "feature", "id": "ai", "value": 1}
    assert found["org", "11"] == {"kind": "org", "id": "11", "base64": "/yBubyBKU09O"}
    assert found["object", "file-1"]["expires"].endswith("Z")
    assert found["user", "42"]["value"]["grants"][0]["limits"] == {"rpm": 7.0}


async def test_what_is_wrong_with_a_line_is_said_with_its_number_and_the_others_are_taken(tmp_path: Path) -> None:
    lines = [
        key_line(1),  # line 2
        "{nonsense",
        key_line(1),
        json.dumps({"kind": "spirit", "id": "x", "value": {}}),
        json.dumps({"kind": "key", "id": "laptop", "value": {"user": 42}}),
        key_line(2, scopes=["ai:everything"]),
        json.dumps({"kind": "feature", "id": "ai", "value": "perhaps"}),
        json.dumps({"kind": "content", "id": "ab", "value": {"account": "a", "owner": "b"}}),
        json.dumps({"kind": "object", "id": "a", "value": {"id": "b", "kind": "file", "owner": "c", "account": "d"}}),
        json.dumps({"kind": "user", "id": "42"}),
        json.dumps({"kind": "org", "id": "1", "base64": "%"}),
        json.dumps({"kind": "plan", "id": "p", "value": {}, "expires": "soon"}),
        json.dumps({"kind": "plan", "id": "p", "value": {}, "else": 1}),
        key_line(3),  # line 15
    ]
    done = await imported(tmp_path, file_of(*lines))
    assert done.code == 1
    told = dict(line.removeprefix("line ").split(": ", 1) for line in done.err.splitlines() if line.startswith("line"))
    assert list(told) == [str(number) for number in range(3, 15)]
    for number, words in {
        "3": "not a line of the format",
        "4": "the same key stands on line 2",
        "5": "'spirit' is not known",
        "6": "64 hexadecimal digits",
        "7": "scopes",
        "8": "neither 1 nor 0",
        "9": "expires: is missing",
        "11": "either value or base64",
        "12": "base64",
        "13": "no ISO time",
        "14": "else",
    }.items():
        assert words in told[number], (number, told[number])
    assert "12 lines were refused; the others were taken." in done.err
    assert "2 keys written to the embedded store in data." in done.out
    assert len(await keys_of(tmp_path)) == 2


async def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    whole = file_of(key_line(1), key_line(2))
    cut = await imported(tmp_path, whole.rsplit("\n", 2)[0] + "\n")
    assert cut.code == 1
    assert "the file was cut off" in cut.err
    (tmp_path / "data" / "gateway.db").unlink()
    short = await imported(tmp_path, whole.replace(key_line(1) + "\n", ""), "--replace")
    assert short.code == 1
    assert "2 lines are said to stand before this one; there are 1" in short.err


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("", "no export of a store"),
        ('{"kind":"key"}', "no export of a store"),
        ('{"format":"another","version":1}', "the format is not ecli-gateway-store"),
        ('{"format":"ecli-gateway-store","version":2}', "version 2 of the format; this gateway reads version 1"),
    ],
)
async def test_another_file_is_refused_as_a_whole(tmp_path: Path, first: str, words: str) -> None:
    done = await imported(tmp_path, first)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert not (tmp_path / "data").exists()


async def test_a_dry_run_says_what_would_be_and_writes_nothing(tmp_path: Path) -> None:
    text = file_of(key_line(1), key_line(2))
    nothing_yet = await imported(tmp_path, text, "--dry-run")
    assert nothing_yet.code == 0, nothing_yet.err
    assert "2 keys would be written to a new embedded store in data." in nothing_yet.out
    assert not (tmp_path / "data").exists()
    assert (await imported(tmp_path, file_of(key_line(1)))).code == 0
    some = await imported(tmp_path, text, "--dry-run")
    assert "1 key would be written to the embedded store in data." in some.out
    assert len(await keys_of(tmp_path)) == 1


async def test_importing_into_a_store_that_is_not_empty(tmp_path: Path) -> None:
    assert (await imported(tmp_path, file_of(key_line(1), key_line(2)))).code == 0
    other = file_of(key_line(2, user=43), key_line(3))
    refused = await imported(tmp_path, other)
    assert (refused.code, refused.out) == (1, "")
    assert "is not empty: it holds 2 keys" in refused.err
    merged = await imported(tmp_path, other, "--merge")
    assert (merged.code, len(await keys_of(tmp_path))) == (0, 3)
    replaced = await imported(tmp_path, other, "--replace")
    assert replaced.code == 0, replaced.err
    assert await keys_of(tmp_path) == [f"{number:064x}" for number in (2, 3)]
    async with embedded(tmp_path / "data") as store:
        assert b"43" in (await store.records.get("key", f"{2:064x}") or b"")


async def test_a_file_that_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    async with embedded(tmp_path / "data") as store:
        await store.fill()
    (tmp_path / "a.jsonl").write_text("precious")
    refused = await command("store", "export", "a.jsonl", "--from", "data", cwd=tmp_path)
    assert refused.code == 1
    assert (tmp_path / "a.jsonl").read_text() == "precious"
    forced = await command("store", "export", "a.jsonl", "--from", "data", "--force", cwd=tmp_path)
    assert forced.code == 0
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600
    missing = await command("store", "export", "b.jsonl", "--from", "nowhere", cwd=tmp_path)
    assert missing.code == 1
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "data"]


async def test_through_a_pipe(tmp_path: Path) -> None:
    """`export | import`: standard input is read once, and bounded by no size."""
    async with embedded(tmp_path / "data") as store:
        await store.fill()
    gateway = f"{sys.executable} -m gateway store"
    process = await asyncio.create_subprocess_shell(
        f"{gateway} export --from data | {gateway} import --to other",
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert b"1 model, 2 users" in out


async def test_each_command_shows_an_example(tmp_path: Path) -> None:
    for action in ("copy", "export", "import"):
        done = await command("store", action, "--help", cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert f"example:\n  gateway store {action} " in done.out
