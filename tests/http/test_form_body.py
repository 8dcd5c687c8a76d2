"""A form as it goes up: written anew for each model, and with parts whose content took another's place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit.forms import BOUNDARY, Field, form_bytes

from gateway.errors import InvalidMultipart
from gateway.http.multipart import FormBody, FormParser, Part, Spools, Upload

MB = 2**20
LINES = b"".join(b'{"line": %d}\n' % number for number in range(20_000))


@pytest.fixture
def spools(tmp_path: Path) -> Iterator[Spools]:
    made = Spools(tmp_path, lambda: 64 * MB, print)
    yield made
    made.close()


async def body_of(spools: Spools, *fields: Field, adds_model: bool = True) -> FormBody:
    spool, parts = spools.open(), []
    for each in FormParser(BOUNDARY.encode()).feed(form_bytes(fields)):
        if isinstance(each, Part):
            each.at = spool.size
            parts.append(each)
        else:
            parts[-1].size += len(each)
            await spool.write(each)
    await spool.finish()
    values = {field.name: field.content.decode() for field in fields if field.filename is None}
    return FormBody(parts, values, spool, adds_model=adds_model)


async def sent(body: FormBody, model: str = "m") -> bytes:
    written = body.rewritten(model)
    if isinstance(written, Upload):
        whole = b"".join([piece async for piece in written.pieces()])
        assert len(whole) == len(written)
        return whole
    return written


async def read(body: FormBody, model: str = "m") -> list[Field]:
    """What an upstream reads."""
    boundary = body.content_type.partition("boundary=")[2]
    fields: list[Field] = []
    for each in FormParser(boundary.encode()).feed(await sent(body, model)):
        if isinstance(each, Part):
            fields.append(Field(each.name, b"", each.filename.decode() if each.filename is not None else None))
        else:
            fields[-1] = fields[-1]._replace(content=fields[-1].content + each)
    return fields


@pytest.mark.parametrize("size", [100, 3 * MB])
async def test_it_is_written_for_each_model_anew(spools: Spools, size: int) -> None:
    """Each time from the same parts; contents never hold the boundary."""
    fields = [Field("file", bytes(size), "a"), Field("model", b"x"), Field("modelId", b"7"), Field("n", b"2")]
    body = await body_of(spools, *fields)
    for model in ("first", "second", "première"):
        assert await read(body, model) == [fields[0], Field("model", model.encode()), fields[3]]
    other = await body_of(spools, *fields)
    assert other.content_type != body.content_type
    body.close()
    other.close()
    assert spools.used == 0


async def test_a_route_without_a_model_has_none_added(spools: Spools) -> None:
    fields = [Field("purpose", b"user_data"), Field("file", b"abc", "a.txt")]
    assert await read(await body_of(spools, *fields, adds_model=False)) == fields
    assert await read(await body_of(spools, *fields)) == [Field("model", b"m"), *fields]


@pytest.mark.parametrize("size", [1, 40])
async def test_a_part_may_be_rewritten_before_it_goes_up(spools: Spools, size: int) -> None:
    """Line by line, in whichever order its fields come, on disk or in memory."""
    fields = [Field("file", LINES * size, "a.jsonl"), Field("purpose", b"batch")]
    body = await body_of(spools, *fields, adds_model=False)

    async def longer() -> AsyncIterator[bytes]:
        async for piece in body.content(body.part("file")):
            yield piece.replace(b"line", b"longer line")

    await body.add_version(body.part("file"), ("m",), longer())
    file, purpose = await read(body)
    assert file.content.replace(b"longer line", b"line").replace(b"longer ", b"") == LINES * size
    assert (file.filename, purpose) == ("a.jsonl", fields[1])
    assert await read(body, "other") == fields  # which nobody has rewritten it for
    body.close()
    assert spools.used == 0


async def test_a_part_that_is_needed_is_there_once(spools: Spools) -> None:
    body = await body_of(spools, Field("file", b"a", "a"), Field("file", b"b", "b"))
    for name in ("file", "purpose"):
        with pytest.raises(InvalidMultipart):
            body.part(name)


async def test_the_same_form_has_the_same_digest(spools: Spools) -> None:
    """By which it is known whether a failure is one request's own."""
    fields = [Field("prompt", b"Hi"), Field("file", b"abc", "a.txt")]
    first = (await body_of(spools, *fields)).digest()
    assert (await body_of(spools, *fields)).digest() == first
    for changed in ([Field("prompt", b"Ho"), fields[1]], [fields[0], Field("file", b"abcd", "a.txt")], fields[:1]):
        assert (await body_of(spools, *changed)).digest() != first


async def test_only_texts_count_for_estimates(spools: Spools) -> None:
    body = await body_of(spools, Field("prompt", b"12345678"), Field("file", bytes(5_000), "a"), Field("model", b"m"))
    assert body.size == 9
