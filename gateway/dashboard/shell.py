"""The HTML around each page, and the headers that it bears."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from gateway.dashboard.assets import Assets
from gateway.http.message import Headers

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors {frames}; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="{icon}">
{styles}
{preloads}
<script type="module" src="{script}"></script>
</head>
<body data-page="{name}">
{frame}
<noscript>These pages need JavaScript.</noscript>
</body>
</html>
"""
# What is seen before the modules are there. They draw it anew, and readers of screens wait for that.
_FRAME = (
    '<div class="frame" aria-hidden="true"><div class="pages"><div class="mark">ecli</div></div>'
    '<div class="room"><div class="head"><h1>{title}</h1></div></div></div>'
)
_BARE = '<div class="content bare" aria-hidden="true"><div class="brand">ecli</div></div>'


class Page(NamedTuple):
    """A page: name in the address, title, whose it is.

    `is_operators`: it stays while the feature `ai` is off. `parts`: folders of modules that it shares with others;
    its own are in the folder of its name. `is_framed`: beside the list of pages.
    """

    name: str
    title: str
    is_operators: bool
    parts: tuple[str, ...] = ()
    is_framed: bool = True


def page_headers(frames: tuple[str, ...]) -> Headers:
    """Return the headers of every page. `frames`: origins that may frame it."""
    ancestors = " ".join(frames) or "'none'"
    return (
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("content-security-policy", _POLICY.format(frames=ancestors)),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    )


def shell(page: Page, assets: Assets) -> bytes:
    """Return a page's HTML: an empty frame, in which its module draws."""
    script = f"pages/{page.name}.js"
    folders = tuple(f"{folder}/" for folder in ("core", page.name, *page.parts))
    files = [name for name in assets.names() if name.startswith(folders)]
    styles = ["style.css", *(name for name in files if name.endswith(".css"))]
    modules = [name for name in files if name.endswith(".js")]
    return _SHELL.format(
        title=escape(f"{page.title} · ecli"),
        icon=escape(assets.url("icon.svg")),
        styles=links("stylesheet", styles, assets),
        preloads=links("modulepreload", modules, assets),
        script=escape(assets.url(script)),
        name=escape(page.name),
        frame=(_FRAME if page.is_framed else _BARE).format(title=escape(page.title)),
    ).encode()


def links(relation: str, names: list[str], assets: Assets) -> str:
    return "\n".join(f'<link rel="{relation}" href="{escape(assets.url(name))}">' for name in names)
