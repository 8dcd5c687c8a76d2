"""Write config/grafana-board.json, the board for Grafana: `python -m tools.board`.

A panel is a row here; places, ids and what is true of every panel are added. `tests/prometheus` runs each query against
a real Prometheus, and reads the file by Grafana's own types.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

FILE = Path(__file__).parents[1] / "config" / "grafana-board.json"
WIDTH = 24  # of a board, in Grafana's units
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ON = 'instance=~"$instance"'
OF_MODEL = 'instance=~"$instance", model=~"$model"'
# Those who look whether we live are no load.
ASKED = 'instance=~"$instance", model=~"$model", route!~"/healthz|/readyz|/metrics"'

FAULTS = f'{ASKED}, status=~"5.."'
USED = f'{OF_MODEL}, kind=~"prompt|completion"'
CACHED, PROMPT = f'{OF_MODEL}, kind="cached"', f'{OF_MODEL}, kind="prompt"'
FAILED = f'{OF_MODEL}, result!~"ok|cancelled"'


class Query(NamedTuple):
    """`legend`: how its series are named; labels in `{{ }}`."""

    expr: str
    legend: str


class Panel(NamedTuple):
    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    is_stacked: bool = False
    most: float | None = None


class Section(NamedTuple):
    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str, by: str = "") -> str:
    """Return a sum of rates, over the range that Grafana chooses."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{{{labels}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str, by: str = "le") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels, by)})"


def one(expr: str, legend: str = "") -> tuple[Query, ...]:
    return (Query(expr, legend),)


def quantiles(metric: str, labels: str) -> tuple[Query, ...]:
    return tuple([Query(quantile(share, metric, labels), f"p{round(share * 100)}") for share in (0.5, 0.95, 0.99)])


def stat(title: str, about: str, unit: str, expr: str) -> Panel:
    return Panel(title, about, unit, one(expr), kind="stat", width=4, height=4)


SECTIONS = (
    Section(
        "Now",
        (
            stat("Requests", "Requests a second.", "reqps", rate("gateway_requests_total", ASKED)),
            stat(
                "Refused by us",
                "Share of requests that ended with a 5xx.",
                "percentunit",
                f"({rate('gateway_requests_total', FAULTS)} or vector(0)) / {rate('gateway_requests_total', ASKED)}",
            ),
            stat("In flight", "Requests in flight.", "short", f"sum (gateway_in_flight{{{ON}}})"),
            stat(
                "First byte",
                "95 of 100 requests have their answer or first event within this time.",
                "s",
                quantile(0.95, "gateway_first_byte_seconds", OF_MODEL),
            ),
            stat(
                "Tokens",
                "Tokens a minute, of prompts and completions.",
                "short",
                f"60 * {rate('gateway_tokens_total', USED)}",
            ),
            stat(
                "Endpoints at rest",
                "Endpoints that cool down.",
                "short",
                f"count (gateway_endpoint_cooling_seconds{{{OF_MODEL}}}) or vector(0)",
            ),
        ),
    ),
    Section(
        "Requests",
        (
            Panel(
                "By status",
                "499: the client left.",
                "reqps",
                one(rate("gateway_requests_total", ASKED, "status"), "{{status}}"),
                is_stacked=True,
            ),
            Panel(
                "By model",
                "The model that answered, or was asked last.",
                "reqps",
                one(rate("gateway_requests_total", ASKED + ', model!=""', "model"), "{{model}}"),
                is_stacked=True,
            ),
            Panel(
                "Errors by code",
                "The gateway's own errors, those told inside a stream among them.",
                "reqps",
                one(rate("gateway_errors_total", OF_MODEL, "code"), "{{code}}"),
                is_stacked=True,
            ),
            Panel(
                "Duration",
                "From a request's head to the end of its answer.",
                "s",
                quantiles("gateway_request_duration_seconds", ON + ', route!~"/healthz|/readyz|/metrics"'),
            ),
            Panel(
                "First byte by model",
                "95 of 100 requests have their answer or first event within this time.",
                "s",
                one(quantile(0.95, "gateway_first_byte_seconds", OF_MODEL, "le, model"), "{{model}}"),
            ),
            Panel(
                "The gateway's own share",
                "What of the time to the first byte was not spent on upstreams.",
                "s",
                quantiles("gateway_own_share_seconds", ON),
            ),
            Panel(
                "In flight",
                "Beyond the limit requests are refused with 503.",
                "short",
                (
                    Query(f"sum by (instance) (gateway_in_flight{{{ON}}})", "{{instance}}"),
                    Query(f"sum by (instance) (gateway_in_flight_limit{{{ON}}})", "limit of {{instance}}"),
                ),
            ),
            Panel(
                "Outcomes",
                "Of requests for a model, as in the ledger.",
                "reqps",
                one(rate("gateway_requests_total", OF_MODEL + ', outcome!=""', "outcome"), "{{outcome}}"),
                is_stacked=True,
            ),
            Panel(
                "Streams that broke",
                "A second, by model.",
                "reqps",
                one(
                    rate("gateway_errors_total", OF_MODEL + ', code="stream_incomplete"', "model"),
                    "{{model}}",
                ),
            ),
        ),
    ),
    Section(
        "Tokens",
        (
            Panel(
                "By kind",
                "Cached tokens are part of the prompt's, reasoning of the completion's.",
                "short",
                one(rate("gateway_tokens_total", OF_MODEL, "kind"), "{{kind}}"),
            ),
            Panel(
                "By model",
                "Prompts and completions.",
                "short",
                one(
                    rate("gateway_tokens_total", USED, "model"),
                    "{{model}}",
                ),
                is_stacked=True,
            ),
            Panel(
                "Share of prompts that was cached",
                "What the providers' caches saved.",
                "percentunit",
                one(
                    f"{rate('gateway_tokens_total', CACHED, 'model')}"
                    f" / ({rate('gateway_tokens_total', PROMPT, 'model')} > 0)",
                    "{{model}}",
                ),
                most=1,
            ),
        ),
    ),
    Section(
        "Upstreams",
        (
            Panel(
                "Attempts by result",
                "Why an attempt failed, else the outcome of the request that it answered.",
                "reqps",
                one(rate("gateway_upstream_attempts_total", OF_MODEL, "result"), "{{result}}"),
                is_stacked=True,
            ),
            Panel(
                "Attempts that failed, by endpoint",
                "Share of its attempts.",
                "percentunit",
                one(
                    f"{rate('gateway_upstream_attempts_total', FAILED, 'model, endpoint')}"
                    f" / {rate('gateway_upstream_attempts_total', OF_MODEL, 'model, endpoint')}",
                    "{{model}} at {{endpoint}}",
                ),
                most=1,
            ),
            Panel(
                "Failovers",
                "Attempts beyond the first of a request.",
                "reqps",
                one(rate("gateway_failovers_total", OF_MODEL, "model"), "{{model}}"),
            ),
            Panel(
                "In flight by endpoint",
                "Attempts under way.",
                "short",
                one(
                    f"sum by (model, endpoint) (gateway_endpoint_in_flight{{{OF_MODEL}}})",
                    "{{model}} at {{endpoint}}",
                ),
            ),
            Panel(
                "States of endpoints",
                "Counted for each worker that has used them.",
                "short",
                one(f"sum by (state) (gateway_endpoint_state{{{OF_MODEL}}})", "{{state}}"),
                is_stacked=True,
            ),
            Panel(
                "What is left of cooldowns",
                "An endpoint with `credentials` refuses the key that the gateway has for it.",
                "s",
                one(
                    f"max by (model, endpoint, cause) (gateway_endpoint_cooling_seconds{{{OF_MODEL}}})",
                    "{{model}} at {{endpoint}}: {{cause}}",
                ),
            ),
            Panel(
                "The queue",
                "Requests that wait for an endpoint, and how many may.",
                "short",
                (
                    Query(f"sum (gateway_queue_waiting{{{OF_MODEL}}}) or vector(0)", "waiting"),
                    Query(f"sum (gateway_queue_limit{{{ON}}})", "limit"),
                ),
            ),
            Panel(
                "Waits in the queue",
                "95 of 100 that waited had an endpoint, or gave up, within this time.",
                "s",
                one(quantile(0.95, "gateway_queue_wait_seconds", OF_MODEL, "le, model"), "{{model}}"),
            ),
            Panel(
                "Cooldowns",
                "That began, or whose end moved out, an hour.",
                "short",
                one(
                    f"3600 * {rate('gateway_cooldowns_total', OF_MODEL, 'model, endpoint, cause')}",
                    "{{model}} at {{endpoint}}: {{cause}}",
                ),
            ),
        ),
    ),
    Section(
        "Ledger",
        (
            Panel(
                "Reached",
                "1: the last try of every worker went well.",
                "short",
                (
                    Query(f"min by (instance) (gateway_ledger_database_up{{{ON}}})", "database of {{instance}}"),
                    Query(f"min by (instance) (gateway_journal_up{{{ON}}})", "journal of {{instance}}"),
                ),
                most=1,
            ),
            Panel(
                "Requests in the journal",
                "Admitted and not settled; settled and not in the database yet.",
                "short",
                (
                    Query(f"sum (gateway_ledger_open_requests{{{ON}}})", "open"),
                    Query(f"sum (gateway_ledger_waiting_requests{{{ON}}})", "waiting for the database"),
                    Query(f"sum (gateway_ledger_memory_records{{{ON}}})", "in memory alone"),
                ),
            ),
            Panel(
                "The fullest journal",
                "At 100 % requests are refused.",
                "percentunit",
                one(f"max by (instance) (gateway_journal_fill_ratio{{{ON}}})", "{{instance}}"),
                most=1,
            ),
            Panel(
                "Usage lost",
                "An hour. It must be zero.",
                "short",
                tuple(
                    [
                        Query(f"3600 * {rate(f'gateway_ledger_{name}_total', ON)}", name.replace("_", " "))
                        for name in ("lost_records", "refused_rows", "damaged_records")
                    ]
                ),
            ),
            Panel(
                "Booked at the base price",
                "Requests an hour whose service tier has no price.",
                "short",
                one(f"3600 * {rate('gateway_unpriced_total', OF_MODEL, 'model, tier')}", "{{model}}: {{tier}}"),
            ),
        ),
    ),
    Section(
        "Configuration, stores, messages",
        (
            Panel(
                "Problems of gateway.yaml",
                "While there are some, an older file is served.",
                "short",
                one(f"max by (instance) (gateway_config_problems{{{ON}}})", "{{instance}}"),
            ),
            Panel(
                "Age of the configuration",
                "Since the served file was read.",
                "s",
                one(
                    f"time() - min by (instance) (gateway_config_last_success_timestamp_seconds{{{ON}}})",
                    "{{instance}}",
                ),
            ),
            Panel(
                "Store",
                "1: it can be asked, and changes by others are known.",
                "short",
                (
                    Query(f"min by (instance, kind) (gateway_store_up{{{ON}}})", "{{kind}} of {{instance}}"),
                    Query(f"min by (instance) (gateway_store_hears_changes{{{ON}}})", "changes at {{instance}}"),
                    Query(f"max by (instance) (gateway_limits_alone{{{ON}}})", "limits alone at {{instance}}"),
                ),
            ),
            Panel(
                "Alerts by webhook",
                "An hour; and what waits.",
                "short",
                (
                    Query(f"3600 * {rate('gateway_alerts_sent_total', ON)}", "sent"),
                    Query(f"3600 * {rate('gateway_alerts_failed_total', ON)}", "tries that failed"),
                    Query(f"3600 * {rate('gateway_alerts_given_up_total', ON)}", "given up"),
                    Query(f"max (gateway_alerts_waiting{{{ON}}})", "waiting"),
                ),
            ),
            Panel(
                "Spans",
                "A second, where telemetry is on.",
                "short",
                (
                    Query(rate("gateway_spans_exported_total", ON), "exported"),
                    Query(rate("gateway_spans_dropped_total", ON, "reason"), "dropped: {{reason}}"),
                ),
            ),
            Panel(
                "Lines of the log that nobody took",
                "An hour.",
                "short",
                one(f"3600 * {rate('gateway_log_lines_lost_total', ON, 'instance')}", "{{instance}}"),
            ),
        ),
    ),
    Section(
        "Processes",
        (
            Panel(
                "CPU",
                "Cores in use, of all workers.",
                "short",
                one(rate("process_cpu_seconds_total", ON, "instance"), "{{instance}}"),
            ),
            Panel(
                "Memory",
                "Resident; and what requests hold of what they may.",
                "bytes",
                (
                    Query(f"sum by (instance) (process_resident_memory_bytes{{{ON}}})", "resident: {{instance}}"),
                    Query(f"sum by (instance) (gateway_memory_held_bytes{{{ON}}})", "held: {{instance}}"),
                    Query(f"sum by (instance) (gateway_memory_limit_bytes{{{ON}}})", "limit: {{instance}}"),
                ),
            ),
            Panel(
                "Lag of the event loop",
                "At worst, of the worst worker.",
                "s",
                one(f"max by (instance) (gateway_event_loop_lag_seconds{{{ON}}})", "{{instance}}"),
            ),
            Panel(
                "Open files",
                "Of all workers; the limit is for each.",
                "short",
                (
                    Query(f"sum by (instance) (process_open_fds{{{ON}}})", "{{instance}}"),
                    Query(f"min by (instance) (process_max_fds{{{ON}}})", "limit of {{instance}}"),
                ),
            ),
            Panel(
                "Uploads on disk",
                "`server.spool_mb` bounds them.",
                "bytes",
                one(f"sum by (instance) (gateway_spool_bytes{{{ON}}})", "{{instance}}"),
            ),
            Panel(
                "Workers",
                "That answered the last scrape, by version.",
                "short",
                one(
                    f"max by (instance) (gateway_workers{{{ON}}})"
                    f" * on (instance) group_left (version) max by (instance, version) (gateway_build_info{{{ON}}})",
                    "{{instance}}: {{version}}",
                ),
            ),
        ),
    ),
)


def board() -> dict[str, Any]:
    """Return the board as Grafana imports it."""
    return {
        "uid": "ecli-gateway",
        "title": "ecli-gateway",
        "description": "Requests, tokens, upstreams, ledger and processes of ecli-gateway, by its /metrics.",
        "tags": ["ecli-gateway"],
        "timezone": "browser",
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "schemaVersion": 36,
        "version": 1,
        "templating": {"list": [_datasource(), *_variables()]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "hide": 0}


def _variables() -> Iterator[dict[str, Any]]:
    for name, query in (
        ("instance", "label_values(gateway_build_info, instance)"),
        ("model", 'label_values(gateway_requests_total{instance=~"$instance"}, model)'),
    ):
        yield {
            "name": name,
            "type": "query",
            "datasource": SOURCE,
            "query": query,
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"selected": True, "text": "All", "value": "$__all"},
            "hide": 0,
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for section in SECTIONS:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": top}
        yield {"id": number, "type": "row", "title": section.title, "collapsed": False, "gridPos": place, "panels": []}
        number, top, left, tallest = number + 1, top + 1, 0, 0
        for panel in section.panels:
            if left + panel.width > WIDTH:
                top, left, tallest = top + tallest, 0, 0
            yield _panel(panel, number, {"h": panel.height, "w": panel.width, "x": left, "y": top})
            number, left, tallest = number + 1, left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query.expr, "legendFormat": query.legend}
            for place, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field_defaults(panel), "overrides": []},
        "options": _options(panel),
    }


def _field_defaults(panel: Panel) -> dict[str, Any]:
    found: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        found["max"] = panel.most
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.is_stacked else "none", "group": "A"}
        found["custom"] = {"fillOpacity": 20 if panel.is_stacked else 0, "showPoints": "never", "stacking": stacking}
    return found


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "area"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def text() -> bytes:
    return orjson.dumps(board(), option=orjson.OPT_INDENT_2) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(text())
