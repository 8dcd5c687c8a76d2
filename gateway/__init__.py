"""ecli-gateway: an OpenAI-compatible reverse-proxy gateway.

A map of the house, from the top floor down; imports point downward only.

    cli/            the commands                        demo/       the whole thing on one machine
    process/        one process from its socket to its end: serve, supervisor (workers), upgrade, systemd
    app, assembly   from settings to everything that a process holds
    api/            router, middleware, the OpenAI routes, panel/, admin/, usage, health and metrics, openapi/
    dashboard/      the pages: sign-in, sessions' routes, static/ (ES modules and CSS)
    websockets/     responses and realtime over WebSockets: relayed frame by frame, or bridged to streams
    batches/        files of many requests: lines judged and rewritten; what is booked when it ends
    proxy/          one relayed request: pipeline, attempt, books/accounting; what is rare beside them: response,
                    refusals/, stream/; keeping/: stored objects in answers; queueing/: what waits for an endpoint
    admin_records/  changes to records, and their rules; explain/: who gets which model, and why
    access/         from headers to a caller, from a request to a model; what was looked up just now;
                    tokens/: callers by JWT
    transfer/       run-time records carried from one store to another, or to a file
    objects/        what upstreams keep: owner and place of each id, which endpoints are one account
    alerts/         webhooks, each event once           (what is settled, refused, cooling, away)
    limits/         reserve and settle                  usage/      the ledger: journal/, writer, sql/, views/
    store/          models, users and keys: gateway.yaml over the run-time stores
    http/           in: fast_lane/, app_server/ (aiohttp); out: client/; server-sent events, memory bound;
                    multipart/: forms
    redis/          links to Redis that look after themselves
    observability/  the calls in flight, what is left of each that has ended (counts, access line); logging, tracing,
                    metrics/, otel/ (spans)
    dialects/       wire shapes of OpenAI's protocol, rewriting a body
    pool/           rotation and cooldown, pure decisions
    config/         gateway.yaml → settings; yaml/, checks, schema, reload
    errors, types, single_flight
    pricing/        what a usage costs by a price      jose/       tokens and keys (JWT, JWKS) taken apart

A plain request's way, file by file (a test in tests/house follows one):

    http/fast_lane/answering.py           the client's bytes become a request, and its answer bytes
    api/middleware.py                     the order of refusals; what every request gets
    access/lookup_cache.py                who asks, and for what, as it was looked up a moment ago
    observability/calls.py                it is one of the calls in flight
    api/openai_routes.py                  its body, the model that it means, who tells the client
    dialects/openai/request_body.py       the body taken apart; `model` put in its place
    proxy/pipeline.py                     from one endpoint to the next, until there is an answer
    proxy/books/accounting.py             what it may use is reserved (limits/memory.py), what it used is settled
    usage/journal/journal.py              that it begins and how it ended is on the disk
    pool/pool.py                          an endpoint that is free
    proxy/attempt.py                      that endpoint is asked, its answer passed on
    http/client/transport.py              over a connection that is open already
    dialects/openai/metering/contents.py  what the answer says that it used
    observability/ended.py                it is counted, and has its line in the log

Where to find what people look for first:

    what a request costs                  pricing/rates.py; what was used: dialects/openai/metering/
    what is reserved for it               proxy/books/reserving.py; tools, images, sound: proxy/books/besides.py
    retry-after of a 429                  ours: limits/over_limit.py; an upstream's: pool/retry_after.py reads it,
                                          pool/cooling.py cools by it, pool/verdict.py tells the client
    include_usage taken out of a stream   proxy/stream/live.py
    a client leaves, its upstream closes  http/fast_lane/connection.py (eof_received) cancels the request;
                                          proxy/attempt.py (close) aborts, http/client/connection.py closes
    a request's line in the log           observability/ended.py (access_line)
    a request's row, before it is one     usage/journal/journal.py writes it, usage/writer.py takes it to the database,
                                          usage/sql/rows_store.py inserts it
    whose a key is                        access/authenticate.py; kept for a moment by access/lookup_cache.py
    a cooldown begins                     pool/cooling.py
    what the fast lane leaves to aiohttp  http/fast_lane/reading.py decides, http/fast_lane/passage.py takes it there
    what a reload swaps                   app.py (configured) builds an api/runtime.py, process/serve.py swaps it in
    why a change does not hold yet        store/freshness.py; `explain` says how old what it used is
    a new relayed route                   dialects/openai/operations/text.py (one row)
    a new protocol                        types.py (ProtocolName), dialects/ (a folder), a responder beside
                                          api/messages_routes.py, its errors in api/router.py (ErrorShape) and
                                          api/middleware.py (rendered)
    a page of a usage report              usage/sql/pages/page_queries.py; in memory: usage/row_pages.py
    who tells a client a relayed answer   api/openai_routes.py, api/panel/responders.py
"""

__version__ = "0.1.0"
