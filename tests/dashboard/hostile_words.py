"""Forty answers that nobody wants: each must be shown as words, run nothing, and hold nothing up."""

from __future__ import annotations

MEGABYTE = 1_000_000
_RUN = "window.ran=true"

MARKUP = [
    f"<script>{_RUN}</script>",
    f"<img src=x onerror={_RUN}>",
    f"<svg onload={_RUN}>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"</code></pre><script>{_RUN}</script>",
    f"```html\n</code><img src=x onerror={_RUN}>\n```",
    f"``` <img src=x onerror={_RUN}>\nx\n```",
    f"| <b onmouseover={_RUN}>a</b> | b |\n|---|---|\n| <script>{_RUN}</script> | <a href='javascript:{_RUN}'>x</a> |",
    "<style>*{display:none}</style>",
    "<base href='https://evil.example/'><form action='https://evil.example'><input name=key></form>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<object data='data:text/html,<script>1</script>'></object><embed src='https://evil.example/x.swf'>",
    "&lt;script&gt;&#60;script&#62;&amp;",
]
LINKS = [
    f"[x](javascript:{_RUN})",
    f"[x](JaVaScRiPt:{_RUN})",
    f"[x](java\tscript:{_RUN}) [y](  javascript:{_RUN})",
    f"[x](\u0001javascript:{_RUN})",
    f"[x](data:text/html,<script>{_RUN}</script>)",
    f"[x](vbscript:{_RUN}) [y](file:///etc/passwd) [z](blob:https://evil.example/1)",
    "[x](/dashboard/session?ticket=1) [y](//evil.example) [z](https:evil)",
    f"![x](https://evil.example/pixel.png) ![y](javascript:{_RUN}) ![z](data:image/svg+xml,<svg onload={_RUN}>)",
    f'[x](https://e.example "\' onclick={_RUN} \'") <https://e.example/"onmouseover="{_RUN}>',
    f"<javascript:{_RUN}> <https://evil.example/<script>>",
    "[a [b](https://e.example) c](https://f.example) [[[[x]]]](https://g.example)",
]
LETTERS = [
    "".join(map(chr, range(0x20))) + "\x7f\x80\x9f",
    "\u202eevil\u202c \u2066a\u2069 \u200e\u200f\u061c end",
    "```js\nif (a) {\u202e } \u2066// ok\u2069\n```\n`\u202ecode`",
    "Z" + "\u0301" * 20_000,
    "\ufeff\u200b\u2060\u00ad" * 500 + "x",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 " * 2_000,
]
LARGE = [
    "a" * MEGABYTE,
    "word " * (MEGABYTE // 5),
    "```\n" + "x" * MEGABYTE,
    "- " * 10_000 + "deep",
    "> " * 10_000 + "deep",
    "\n".join(" " * (2 * depth) + "- x" for depth in range(1_000)),
    "[" * 100_000 + "](" * 100_000,
    "*_~~`" * 100_000,
    "|" * 100_000 + "\n" + "|-" * 100_000,
    "| a | b |\n|---|---|\n" + "| c | d |\n" * 20_000,
]
ANSWERS = [*MARKUP, *LINKS, *LETTERS, *LARGE]

NAMES = [
    f"<img src=x onerror={_RUN}>",
    "m.png (free)",
    "javascript:alert(1)",
    "x" * 200,
    "a/b c'\"&lt;",
]
