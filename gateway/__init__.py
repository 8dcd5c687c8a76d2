"""ecli-gateway: an OpenAI-compatible reverse-proxy gateway.

A map of the house, from the top floor down; imports point downward only.

    cli          the commands                       demo        the whole thing on one machine
    app          from settings to a running gateway
    middleware   around every route: request id, feature flag, caller, errors, the access line
    routes/      rows of one table: the OpenAI surface, health
    state        what the routes share
    relay/       the story of one request: pick an endpoint, try it, stream or answer
    auth         from headers to a caller           calls       the requests in flight
    server       the one way in (aiohttp)           transport/  the one way out (llhttp)
    cooldowns    records of rate limits             grants/     models, users, keys; who may use what
    config/      gateway.yaml → settings            pool/       rotation and cooldown, pure decisions
    sse          bytes in, events out               openai/     wire shapes, rewriting a body
    logs         structlog                          errors, types
"""

__version__ = "0.1.0"
