"""What has no counterpart, and what to do instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.cli.litellm.their_file import Note, Value

_POOL = "the pool has rules of its own: each endpoint once a request; 429 cools by `retry-after`, a third failure 5 s"
_HOOKS = "no callbacks: there are /metrics, structured logs, usage routes and alerts by webhook (`alerts`)"
_UNCHANGED = "the gateway changes nothing in a body but its model: let clients send it"
_NO_CACHE = "answers are not cached; providers' prompt caches are kept warm by `rotation: cache_affinity`"
_DATABASE = (
    "keys, teams, budgets and spend of its database stay there: make keys by `gateway keys new --store` or the admin "
    "routes; the gateway's ledger is `usage.url`, a database of its own"
)
_BUDGET = "limits of cost are a grant's or a model's: `limits: {cost: …, period: month}`"
_NO_PASSING = "nothing of an upstream but the routes of the table can be reached"
_CONTENT = "no request is judged or changed by its content"
_NOT_SERVED = "not served"
_SHARED = "several processes share limits and cooldowns by `store: {kind: redis, url: redis://…}`"
_FALLBACKS = "`fallbacks` are for failures alone: what a model refuses is the client's to mend"

ADVICE: Mapping[str, Mapping[str, str]] = {
    "router_settings": {
        "routing_strategy_args": "a rotation has no settings",
        "cooldown_time": _POOL,
        "allowed_fails": _POOL,
        "allowed_fails_policy": _POOL,
        "disable_cooldowns": _POOL,
        "num_retries": _POOL,
        "max_fallbacks": "each model of `fallbacks` is tried once",
        "retry_after": _POOL,
        "retry_policy": _POOL,
        "model_group_retry_policy": _POOL,
        "enable_pre_call_checks": "the context window is the upstream's to judge; `operations` is what a model serves",
        "context_window_fallbacks": _FALLBACKS,
        "content_policy_fallbacks": _FALLBACKS,
        "redis_host": _SHARED,
        "redis_port": _SHARED,
        "redis_password": _SHARED,
        "redis_url": _SHARED,
        "redis_db": _SHARED,
        "cache_responses": _NO_CACHE,
        "enable_tag_filtering": "access is by grants of users, organisations and plans",
        "tag_filtering_match_any": "access is by grants of users, organisations and plans",
        "provider_budget_config": _BUDGET,
        "default_max_parallel_requests": "`max_in_flight` is an endpoint's own",
        "optional_pre_call_checks": "`rotation: cache_affinity` keeps a conversation at its endpoint",
    },
    "litellm_settings": {
        "drop_params": _UNCHANGED,
        "modify_params": _UNCHANGED,
        "additional_drop_params": _UNCHANGED,
        "success_callback": _HOOKS,
        "failure_callback": _HOOKS,
        "callbacks": _HOOKS,
        "service_callbacks": _HOOKS,
        "service_callback": _HOOKS,
        "audit_log_callbacks": _HOOKS,
        "langfuse_default_tags": _HOOKS,
        "turn_off_message_logging": "prompts and answers are never logged",
        "redact_user_api_key_info": "the log has ids of users and keys, never a key",
        "redact_messages_in_exceptions": "prompts and answers are never logged",
        "cache": _NO_CACHE,
        "cache_params": _NO_CACHE,
        "set_verbose": "`gateway serve --log-level debug`",
        "json_logs": "`gateway serve --log-format json`",
        "num_retries": _POOL,
        "allowed_fails": _POOL,
        "cooldown_time": _POOL,
        "context_window_fallbacks": _FALLBACKS,
        "content_policy_fallbacks": _FALLBACKS,
        "force_ipv4": "addresses are tried in turn (happy eyeballs)",
        "ssl_verify": "certificates are always verified; an endpoint's `ca_file` names a private authority",
        "ssl_certificate": "an endpoint's `ca_file` names a private authority; certificates of our own are not shown",
        "max_budget": _BUDGET,
        "budget_duration": _BUDGET,
        "max_user_budget": _BUDGET,
        "max_internal_user_budget": _BUDGET,
        "internal_user_budget_duration": _BUDGET,
        "max_end_user_budget": _BUDGET,
        "default_team_settings": "a team is an organisation or a plan, with grants",
        "default_internal_user_params": "whoever has a key has the lowest tier and the global models",
        "upperbound_key_generate_params": "`self_service` bounds the keys that users make for themselves",
        "default_key_generate_params": "`self_service` bounds the keys that users make for themselves",
        "key_generation_settings": "`self_service` bounds the keys that users make for themselves",
        "guardrails": _CONTENT,
        "enable_json_schema_validation": _CONTENT,
        "public_model_groups": "`GET /v1/models` shows what a key may use",
        "mcp_aliases": "MCP is not served",
        "telemetry": "nothing is reported to anybody",
    },
    "general_settings": {
        "database_url": _DATABASE,
        "database_connection_pool_limit": _DATABASE,
        "database_connection_timeout": _DATABASE,
        "allow_requests_on_db_unavailable": "while the ledger's database is away the journal holds its rows",
        "store_model_in_db": "models made by admin routes are kept in `store`",
        "salt_key": _DATABASE,
        "disable_spend_logs": "the ledger has a row a request; `usage.retention_days` bounds it",
        "maximum_spend_logs_retention_period": "`usage.retention_days`",
        "store_prompts_in_spend_logs": "prompts and answers are in no database of the gateway",
        "alerting": "`alerts: [{url, secret, events: [limits, credentials, cooldowns, ledger]}]`, by webhook",
        "alerting_threshold": "`alerts` tell of limits, credentials, cooldowns and the ledger",
        "alert_types": "`alerts` tell of limits, credentials, cooldowns and the ledger",
        "alerting_args": "`alerts` tell of limits, credentials, cooldowns and the ledger",
        "max_parallel_requests": "`limits: {concurrency: …}` on a grant, a model or a key",
        "completion_model": "without `model` a caller gets the first that it may use, in the order of its grants",
        "enable_jwt_auth": "`auth: {jwt: [{issuer, jwks_url, audience, …}]}`",
        "litellm_jwtauth": "`auth: {jwt: [{issuer, jwks_url, audience, …}]}`",
        "custom_auth": "there are keys, JWT, and panels that act for their users (`act:as`)",
        "allowed_routes": "what is not in the table of routes is 404; costly families are opened by `surface.extra`",
        "pass_through_endpoints": _NO_PASSING,
        "use_client_credentials_pass_through_routes": _NO_PASSING,
        "forward_client_headers_to_llm_api": "`pass_headers` of an endpoint names the headers that go on",
        "enforce_user_param": "the caller is known by its key",
        "user_header_name": "the caller is known by its key; a panel acts for users by `x-gateway-user` (`act:as`)",
        "background_health_checks": "endpoints are judged by what they answer; `gateway check --probe` asks each",
        "health_check_interval": "endpoints are judged by what they answer; `gateway check --probe` asks each",
        "infer_model_from_keys": "each model is written",
        "key_management_system": "credentials come from the environment or files: `${VAR}`, `${file:/run/secrets/x}`",
        "key_management_settings": "credentials come from the environment or files: `${VAR}`, `${file:/run/secrets/x}`",
        "ui_access_mode": "the pages are for whoever has a key; `server.dashboard: false` takes them away",
        "allowed_ips": "a key's `ips`",
        "max_request_size_mb": "`server.max_body_mb`",
        "max_response_size_mb": "`server.memory_mb` bounds what is held",
        "use_x_forwarded_for": "`server.trusted_proxies`",
    },
    "litellm_params": {
        "rpm": "an endpoint has no rate of its own: its share of several follows it as `weight`, its 429 cools it",
        "tpm": "an endpoint has no rate of its own: its share of several follows it as `weight`, its 429 cools it",
        "max_retries": _POOL,
        "num_retries": _POOL,
        "cooldown_time": _POOL,
        "drop_params": _UNCHANGED,
        "additional_drop_params": _UNCHANGED,
        "tags": "access is by grants of users, organisations and plans",
        "max_budget": _BUDGET,
        "budget_duration": _BUDGET,
        "mock_response": "`gateway demo` has an upstream of its own",
        "azure_ad_token": "`api_key: ${file:PATH}` with `auth_header: authorization` takes a token that is renewed",
        "tenant_id": "`api_key: ${file:PATH}` with `auth_header: authorization` takes a token that is renewed",
        "client_id": "`api_key: ${file:PATH}` with `auth_header: authorization` takes a token that is renewed",
        "client_secret": "`api_key: ${file:PATH}` with `auth_header: authorization` takes a token that is renewed",
        "configurable_clientside_auth_params": "a caller never chooses the address or credential",
        "model_info": "model_info stands beside litellm_params",
    },
    "": {
        "environment_variables": "set these variables where the gateway is started (systemd: EnvironmentFile=)",
        "mcp_servers": "MCP is not served",
        "mcp_tools": "MCP is not served",
        "guardrails": _CONTENT,
        "prompts": _UNCHANGED,
        "vector_store_registry": "vector stores are objects of the upstreams: `/v1/vector_stores`",
        "search_tools": _NOT_SERVED,
        "callback_settings": _HOOKS,
        "files_settings": "files go to the home of their user, one of its model's endpoints",
        "finetune_settings": "`surface: {extra: [fine_tuning]}`",
        "assistant_settings": "assistants are retired by their provider; responses and conversations are served",
    },
}
UNKNOWN = "no counterpart is known"


def notes_of(section: str, fields: Mapping[str, Value], taken: Iterable[str]) -> list[Note]:
    """Name each field of a section that was not taken over.

    What is switched off or empty asks for nothing.
    """
    known = ADVICE.get(section, {})
    left = [value for name, value in fields.items() if name not in set(taken)]
    return [each.note(known.get(_name(each), UNKNOWN)) for each in left if each.plain not in (None, False, [], {})]


def _name(value: Value) -> str:
    return value.path.rpartition(".")[2]
