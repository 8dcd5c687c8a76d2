"""ecli-gateway: an OpenAI-compatible reverse-proxy gateway.

A map of the house, from the top floor down; imports point downward only.

    cli/         the commands                       demo/       the whole thing on one machine
    serving      sockets, signals, reloads, drain   workers     several processes on one socket
    handover     the socket goes to a successor     retiring    what the predecessor does then
    app          from settings to everything that a process holds
    middleware   around every route: request id, feature flag, caller, errors, the access line
    routes/      rows of one table: OpenAI surface, panel, admin, usage, health
    explain      who gets which model, and why      usage/      reports for people
    readings     gauges, when somebody asks         metrics/    what is counted, for Prometheus
    panel/       chat and studio in other words     registry/   changes to records, and their rules
    state        what the routes share              cooldowns   told to other workers and to people
    relay/       the story of one request: admit, pick an endpoint, try it, stream or answer, settle
    reload       a changed gateway.yaml             differences between two of them, in words
    auth         from headers to a caller           calls       the requests in flight
    moment       what was looked up just now        service     what systemd is told
    server/      the one way in (aiohttp)           transport/  the one way out (llhttp)
    limits/      reserve and settle                 ledger/     journal, database, queries
    grants/      models, users, keys: gateway.yaml over the run-time stores
    config/      gateway.yaml → settings            pool/       rotation and cooldown, pure decisions
    trace        traceparent, passed on
    sse          bytes in, events out               openai/     wire shapes, rewriting a body
    addresses    where endpoints may lead           logs        structlog
    crowd        how many clients may be connected  heads       of requests: what is refused in them
    errors, types
"""

__version__ = "0.1.0"
