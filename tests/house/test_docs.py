"""The docs hold what the code has: pages made from it are up to date, tables are whole, and links lead somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.api import all_routes
from gateway.config import parse_settings
from gateway.errors import GatewayError
from tools.reference import PAGES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROUTES = (DOCS / "routes.md").read_text(encoding="utf-8")
OUTSIDE = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md", "bench/README.md", "bench/NOTES.md")]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_the_code_is_as_the_code_makes_it(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make schema`"


def test_the_site_builds_and_no_link_is_dead(site: Path) -> None:
    done = build(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What an attacker can and cannot do" in (site / "site" / "security.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("link", ["nowhere.md", "routes.md#nowhere"])
def test_a_dead_link_fails_the_build_each_time(site: Path, link: str) -> None:
    with (site / "docs" / "index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n[dead]({link})\n")
    assert [build(site).returncode for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: page.name)
def test_links_of_pages_that_are_no_part_of_the_site_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_no_page_of_the_site_links_out_of_it() -> None:
    """Files of the repository are named there, for the site does not have them."""
    for page in DOCS.glob("*.md"):
        assert [target for target, _ in links(page.read_text(encoding="utf-8")) if target.startswith("..")] == [], page


def test_every_error_has_a_row_with_its_status() -> None:
    rows = [line.split("|") for line in ROUTES.splitlines() if line.startswith("| `")]
    told = {code: row[2] for row in rows for code in re.findall(r"`(\w+)`", row[1])}
    for error in errors(GatewayError):
        if error.code != "stream_incomplete":
            assert str(error.status) in told[error.code], error.code


def test_every_route_is_named() -> None:
    for route in all_routes():
        assert f"{as_told(route.path)}`" in ROUTES or f"{as_told(route.path)}?" in ROUTES, route.path


def test_every_promise_names_its_test() -> None:
    text = (DOCS / "promises.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (P\d+) .*$", text, re.MULTILINE)
    assert rows == [f"P{number}" for number in range(1, len(rows) + 1)]
    patterns = re.findall(r"^\| P\d+ .*`(tests/[^`]+)` \|$", text, re.MULTILINE)
    named = [set(ROOT.glob(pattern)) for pattern in patterns]
    assert len(named) == len(rows)
    assert all(named)
    assert set().union(*named) >= set((ROOT / "tests" / "promises").glob("test_*.py"))
    for folder in re.findall(r"`(tests/\w+/)`", text):
        assert (ROOT / folder).is_dir(), folder


def test_files_and_targets_that_the_docs_name_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:config|bench|requirements|\.ci)/[\w./-]*)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for target in re.findall(r"`make ([a-z]+)", text):
            assert f"\n{target}:" in makefile, f"{page.name}: make {target}"


@pytest.mark.parametrize("name", ["quickstart.md", "models.md"])
def test_the_files_that_are_shown_load(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8").replace("sha256:…", f"sha256:{'0' * 64}")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    environment = {"OPENAI_API_KEY": "sk-one", "AZURE_KEY": "sk-two"}
    assert parse_settings(shown, "gateway.yaml", environment, ROOT).models[0].name == "gpt-4o"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


# -- building the site


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A copy of what the site is made from."""
    shutil.copytree(DOCS, tmp_path / "docs")
    for name in ("mkdocs.yml", "SECURITY.md"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def build(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(command, cwd=site, capture_output=True, text=True, timeout=100, check=False)


# -- reading pages


def links(text: str) -> list[tuple[str, str]]:
    """Targets and anchors of the links within the repository."""
    found = re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [(target, anchor) for target, anchor in found if "://" not in target]


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def errors(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """All errors that have a code of their own."""
    for error in root.__subclasses__():
        if error.code != root.code and error.__module__.startswith("gateway."):
            yield error
        yield from errors(error)


def as_told(path: str) -> str:
    """A route's path as the page has it: one of several that differ in a prefix or in the kind of owner."""
    path = path.removeprefix("/api/ai/openai")
    path = re.sub(r"^/api/ai/anthropic(/v1/messages.*)", r"\1", path)
    path = re.sub(r"^/api/ai/proxy/\{modelId\}/.+", "/api/ai/proxy/{modelId}/{path}", path)
    path = re.sub(r"^/api/admin/(organisations|plans)", "/api/admin/users", path)
    path = re.sub(r"^.+/link-(?:org|plan)$", "/api/admin/ai/models/{id}/link-user", path)
    return re.sub(r"^.+/unlink-(?:org|plan)/", "/api/admin/ai/models/{id}/unlink-user/", path)
