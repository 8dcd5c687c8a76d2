"""The pages and their files, as rows of the router."""

from __future__ import annotations

from gateway.api.middleware import require_ai
from gateway.api.router import Hit, Route, RouteHandler
from gateway.api.signed_in import refuse_without_pages
from gateway.dashboard.assets import Assets
from gateway.dashboard.session_routes import session_routes
from gateway.dashboard.shell import Page, page_headers, shell
from gateway.errors import FeatureDisabled, RouteNotFound
from gateway.http.reply import Answer, Reply

PAGES = (
    Page("ai-chat", "Chat", is_operators=False, parts=("answers",)),
    Page("ai-studio", "Studio", is_operators=False, parts=("answers",)),
    Page("usage", "Usage", is_operators=False, parts=("reports",)),
    Page("keys", "Keys", is_operators=False),
    Page("models", "Models", is_operators=True, parts=("desk",)),
    Page("users", "Users", is_operators=True, parts=("desk",)),
    Page("fleet", "Fleet", is_operators=True, parts=("desk",)),
    Page("soc", "SOC", is_operators=True, parts=("reports",)),
)
SIGN_IN = Page("session", "Sign in", is_operators=True, is_framed=False)
_FOR_EVER = ("cache-control", "public, max-age=31536000, immutable")


def dashboard_routes() -> list[Route]:
    """The rows of all pages; they answer 404 where `server.dashboard` is false."""
    assets = Assets()
    pages = [Route("GET", f"/dashboard/{page.name}", page_handler(page, assets), None) for page in (*PAGES, SIGN_IN)]
    return [
        *pages,
        Route("GET", "/dashboard", to_the_first, None),
        Route("GET", "/dashboard/", to_the_first, None),
        Route("GET", "/dashboard/static/{version}/{name...}", file_handler(assets), None),
        *session_routes(),
    ]


def page_handler(page: Page, assets: Assets) -> RouteHandler:
    """Serve a page's HTML."""
    content = shell(page, assets)

    async def handler(hit: Hit) -> Reply:
        server = refuse_without_pages(hit.runtime)
        status = 200
        if not page.is_operators:
            try:
                await require_ai(hit.runtime)
            except FeatureDisabled:
                if "text/html" not in hit.request.headers.get("accept", "").lower():
                    raise
                status = 503  # a reader sees a page that says so
        return Answer(status, page_headers(server.dashboard_frames), content)

    return handler


def file_handler(assets: Assets) -> RouteHandler:
    """Serve a file of `static/`, by the hash of all."""

    async def handler(hit: Hit) -> Reply:
        refuse_without_pages(hit.runtime)
        asset = assets.find(hit.params["name"])
        if asset is None or hit.params["version"] != assets.version:
            raise RouteNotFound("There is no such file; load the page again.")
        fields = [("content-type", asset.content_type), _FOR_EVER, ("x-content-type-options", "nosniff")]
        if "gzip" not in hit.request.headers.get("accept-encoding", "").lower():
            return Answer(200, [*fields, ("vary", "accept-encoding")], asset.body)
        packed = [*fields, ("content-encoding", "gzip"), ("vary", "accept-encoding")]
        return Answer(200, packed, asset.compressed)

    return handler


async def to_the_first(hit: Hit) -> Reply:
    refuse_without_pages(hit.runtime)
    return Answer(303, [("location", "/dashboard/ai-chat"), ("content-type", "text/plain")], b"")
