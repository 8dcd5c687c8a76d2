"""The pages: chat, studio, usage, keys, and the operators' desk (contract §15).

pages.py           the pages and their files
session_routes.py  signing in and out
assets.py          the files of static/, by the hash of all of them
shell.py           the HTML around a page, and the headers that every page bears

static/            ES modules, style and pictures of our own; no build step, nothing foreign
"""

from gateway.dashboard.pages import dashboard_routes

__all__ = ["dashboard_routes"]
