"""The pages' own files: small, typed, and without a way to turn words into HTML."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from axe_kit import COMPILER, installed

from gateway.dashboard.assets import STATIC, Assets
from gateway.dashboard.pages import PAGES
from gateway.dashboard.shell import shell

HERE = Path(__file__).parent
GALLERY = STATIC.parent.parent / "demo" / "gallery" / "static"
MODULES = sorted(STATIC.rglob("*.js"))
MOST_LINES, MOST_BYTES = 300, 80 * 1024
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\(|new Function"
    r"|setAttribute\(\"(?:style|on)|await import\(|serviceWorker|localStorage\.|ofBrowser\.write\((?!\"theme\")"
)
SECONDS = 300


def node() -> str:
    """The program. Skips, loudly, where there is none."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("NO NODE: the pages' modules are not tried by themselves")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_modules_are_short_typed_and_make_no_html(module: Path) -> None:
    text = module.read_text()
    assert text.startswith("// @ts-check\n")
    assert len(text.splitlines()) < MOST_LINES
    assert FORBIDDEN.findall(text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_at_most_eighty_kilobytes(page) -> None:  # type: ignore[no-untyped-def]
    """Compressed, with all that it loads; and whatever its modules import is preloaded: two round trips, not more."""
    assets = Assets()
    html = shell(page, assets).decode()
    names = re.findall(rf'(?:href|src)="/dashboard/static/{assets.version}/([^"]+)"', html)
    files = {name: assets.find(name) for name in names}
    assert None not in files.values()
    size = len(gzip.compress(html.encode())) + sum(len(file.compressed) for file in files.values() if file)
    assert size <= MOST_BYTES, size
    imported = set()
    for name in filter(lambda each: each.endswith(".js"), names):
        for target in re.findall(r'^import .* from "([^"]+)";$', (STATIC / name).read_text(), re.M):
            imported.add(((STATIC / name).parent / target).resolve().relative_to(STATIC.resolve()).as_posix())
    assert imported <= set(names)


def test_the_parser_of_markdown_by_itself() -> None:
    command = [node(), "--test", str(HERE / "js" / "markdown.test.mjs")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-1000:]


def test_the_types_of_all_modules_hold(tmp_path: Path) -> None:
    compiler = installed(COMPILER, "typescript") / "bin" / "tsc"
    options = {"checkJs": True, "allowJs": True, "noEmit": True, "strict": True, "target": "ES2022", "module": "ES2022"}
    options |= {"moduleResolution": "bundler", "lib": ["ES2023", "DOM", "DOM.Iterable"], "types": []}
    settings = tmp_path / "tsconfig.json"
    settings.write_text(
        json.dumps(
            {"compilerOptions": options, "include": [f"{folder.resolve()}/**/*.js" for folder in (STATIC, GALLERY)]}
        )
    )
    ran = subprocess.run(
        [node(), str(compiler), "-p", str(settings)], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
