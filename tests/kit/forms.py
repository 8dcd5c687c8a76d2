"""Forms as clients send them, and as upstreams find them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from kit.upstream import Received
from kit.wire import request_bytes

BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"


class Field(NamedTuple):
    """One part of a form."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


def form_type(boundary: str = BOUNDARY) -> tuple[str, str]:
    return "content-type", f"multipart/form-data; boundary={boundary}"


def form_bytes(fields: Iterable[Field], boundary: str = BOUNDARY) -> bytes:
    """The fields as browsers write them."""
    pieces: list[bytes] = []
    for field in fields:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field.name}"'
        head += f'; filename="{field.filename}"' if field.filename is not None else ""
        head += f"\r\nContent-Type: {field.content_type}" if field.content_type is not None else ""
        pieces += [head.encode(), b"\r\n\r\n", field.content, b"\r\n"]
    return b"".join([*pieces, f"--{boundary}--\r\n".encode()])


def fields_of(request: Received) -> list[Field]:
    """The parts of a form that an upstream got, read by nothing but its boundary."""
    declared = re.fullmatch(r"multipart/form-data; boundary=([\w-]+)", request.header("content-type") or "")
    assert declared is not None, request.headers
    delimiter = b"\r\n--" + declared[1].encode()
    before, *parts, after = (b"\r\n" + request.body).split(delimiter)
    assert (before, after) == (b"", b"--\r\n")
    return [_field(part) for part in parts]


def _field(part: bytes) -> Field:
    head, content = part.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)
    lines = head.decode().split("\r\n")
    disposition = re.fullmatch(
        r'content-disposition: form-data; name="([^"]*)"(?:; filename="([^"]*)")?(?:; filename\*=.*)?', lines[0]
    )
    assert disposition is not None, head
    types = [line.partition(": ")[2] for line in lines[1:]]
    assert len(types) <= 1
    return Field(disposition[1], content, disposition[2], types[0] if types else None)


def form_request(
    target: str,
    fields: Iterable[Field] | bytes,
    *,
    key: str,
    headers: Iterable[tuple[str, str]] = (),
    content_type: tuple[str, str] = form_type(),
) -> bytes:
    """A whole request with a form, or with these bytes in the place of one."""
    body = fields if isinstance(fields, bytes) else form_bytes(fields)
    fields_of_head = [content_type, ("content-length", str(len(body))), *headers]
    return request_bytes("POST", target, key=key, headers=fields_of_head) + body
