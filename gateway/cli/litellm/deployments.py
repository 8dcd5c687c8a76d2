"""An entry of their model_list as an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from gateway.cli.litellm import providers
from gateway.cli.litellm.leftovers import ADVICE, UNKNOWN, notes_of
from gateway.cli.litellm.providers import Provider
from gateway.cli.litellm.their_file import NOTHING, Note, Value
from gateway.config import checks
from gateway.config.problems import Refused

_MODES: dict[str, tuple[str, ...] | None] = {
    "chat": None,
    "responses": None,
    "completion": ("completions",),
    "embedding": ("embeddings",),
    "image_generation": ("images",),
    "image_edit": ("images",),
    "audio_transcription": ("transcriptions",),
    "audio_speech": ("speech",),
    "moderation": ("moderations",),
    "moderations": ("moderations",),
    "rerank": ("rerank",),
    "realtime": ("realtime",),
}
_PRICES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "output_cost_per_reasoning_token": "reasoning",
}
_MILLION = 1_000_000
# Told of a model to its readers; nothing is decided by it here.
_ABOUT = frozenset(
    (
        *("id", "mode", "base_model", "description", "version", "created_at", "created_by", "updated_at", "db_model"),
        *("max_tokens", "max_input_tokens", "max_output_tokens", "litellm_provider", "supported_environments"),
        *("metadata", "team_id", "key"),
    )
)
_TAKEN = frozenset(
    (
        *("model", "custom_llm_provider", "api_base", "base_url", "api_version", "api_key", "litellm_credential_name"),
        *("organization", "headers", "extra_headers", "timeout", "stream_timeout", "weight", "order"),
        *("max_parallel_requests", "use_in_pass_through"),
    )
)
_MOST_SECONDS = 86_400
_NO_KEYS = frozenset(("", "none", "null", "empty", "no-key", "not-needed", "fake-key", "dummy", "na"))


class Deployment(NamedTuple):
    """An endpoint, and what its model is to be.

    `shares`: of the load, by which they weigh it: `weight`, `rpm`, `tpm`.
    """

    model: str
    where: Value
    endpoint: dict[str, Any]
    provider_model: str
    operations: tuple[str, ...] | None
    tags: tuple[str, ...]
    price: dict[str, Any]
    shares: dict[str, int]


class Skipped(Exception):
    """This entry cannot be an endpoint; `note` says why."""

    def __init__(self, note: Note) -> None:
        super().__init__(note.text)
        self.note = note


Defaults = Mapping[str, Value]


def deployments_of(
    entry: Value, credentials: Mapping[str, Value], defaults: Defaults, report: Callable[[Note], None]
) -> list[Deployment]:
    """Read an entry; one of several organisations is several. Raises Skipped."""
    fields = entry.fields()
    name = fields.get("model_name", NOTHING).text()
    params = dict(fields.get("litellm_params", NOTHING).fields())
    about = fields.get("model_info", NOTHING).fields()
    model = params.get("model", NOTHING)
    if name is None or model.text() is None:
        raise Skipped(entry.note("has no model_name, or no litellm_params.model"))
    _refuse_wildcards(name, model)
    params = _with_credential(params, credentials, report)
    found = _Reader(params, defaults, report)
    provider, provider_model = providers.provider_of(
        str(model.text()), params.get("custom_llm_provider", NOTHING).text()
    )
    endpoint = found.endpoint(provider, provider_model, model)
    operations = _operations(about, provider, report)
    if operations == ("realtime",):
        endpoint["websocket"] = True
    priced = dict(about) | params
    whole = Deployment(
        name,
        entry,
        endpoint,
        provider_model,
        operations,
        ("vision",) if about.get("supports_vision", NOTHING).is_on() else (),
        _price(priced, report),
        found.shares({name: value for name, value in fields.items() if name in ("rpm", "tpm")}),
    )
    for note in _left_over(params, about, fields):
        report(note)
    return [*_of_organisations(whole, params.get("organization", NOTHING))]


def _refuse_wildcards(name: str, model: Value) -> None:
    if "*" in name or "*" in str(model.plain):
        raise Skipped(
            model.note(
                "a wildcard has no counterpart: each model is written by its name, with its own grant and price; "
                "`GET /v1/models` of the provider lists them"
            )
        )


def _with_credential(
    params: dict[str, Value], credentials: Mapping[str, Value], report: Callable[[Note], None]
) -> dict[str, Value]:
    """Lay a credential of credential_list under the entry's own fields."""
    named = params.get("litellm_credential_name")
    if named is None:
        return params
    credential = credentials.get(named.text() or "")
    if credential is None:
        report(named.note("no credential_list has this name"))
        return params
    return credential.fields() | params


class _Reader:
    """The fields of one litellm_params, as an endpoint's."""

    def __init__(self, params: Mapping[str, Value], defaults: Defaults, report: Callable[[Note], None]) -> None:
        self._params = params
        self._defaults = defaults
        self._report = report

    def endpoint(self, provider: str, provider_model: str, model: Value) -> dict[str, Any]:
        known = providers.COMPATIBLE.get(provider)
        if known is None:
            raise Skipped(model.note(providers.advice_for(provider)))
        base = self._base(provider, known, model)
        made: dict[str, Any] = {"url": self._url(provider, provider_model, base, model)}
        made |= self._credential(known, is_own=not self._has_base())
        if provider in providers.AZURE:
            made |= self._azure()
        made |= {"protocols": list(known.protocols)} if known.protocols != ("openai",) else {}
        made |= {"headers": headers} if (headers := self._headers()) else {}
        if not known.keeps_objects or (self._has_base() and provider == "openai"):
            made["objects"] = False
        if (priority := self._whole("order", -1000, 1000)) is not None:
            made["priority"] = priority
        if (most := self._whole("max_parallel_requests", 1, 10_000_000)) is not None:
            made["max_in_flight"] = most
        return made | ({"timeouts": times} if (times := self._timeouts()) else {})

    def _has_base(self) -> bool:
        return any(self._params.get(name, NOTHING).text() for name in ("api_base", "base_url"))

    def _base(self, provider: str, known: Provider, model: Value) -> str:
        for name in ("api_base", "base_url"):
            if text := self._params.get(name, NOTHING).text():
                return text.rstrip("/")
        if known.url:
            return known.url
        if variable := providers.BASE_VARIABLES.get(provider):
            return f"${{{variable}}}"
        raise Skipped(model.note(f"{provider} needs an api_base"))

    def _url(self, provider: str, provider_model: str, base: str, model: Value) -> str:
        """Return the address that /chat/completions is appended to. Raises Skipped."""
        for ending in ("/chat/completions", "/embeddings", "/completions", "/messages"):
            base = base.removesuffix(ending)
        if provider in providers.AZURE and "/openai" not in base:
            version = self._params.get("api_version", NOTHING).text()
            base += f"/openai/deployments/{provider_model}" if version else "/openai/v1"
        if base.startswith("${"):
            return base  # judged by `gateway check`, where the variable is set
        try:
            return checks.endpoint_url(base)
        except Refused as refused:
            place = self._params.get("api_base", self._params.get("base_url", model))
            raise Skipped(place.note(f"cannot be an endpoint's url: {refused}")) from None

    def _credential(self, known: Provider, *, is_own: bool) -> dict[str, Any]:
        given = self._params.get("api_key")
        text = None if given is None else given.text()
        if given is None or text is None:
            if given is not None or not known.key_variable or not (is_own or known.url == ""):
                return {}
            return {"api_key": f"${{{known.key_variable}}}"}
        if text.strip().lower() in _NO_KEYS:
            return {}
        if not given.is_reference():
            try:
                checks.credential(text)
            except Refused as refused:
                self._report(given.note(f"not taken over: {refused}"))
                return {}
            self._report(given.note("a secret in the file: it is kept as it is; the environment or a file is better"))
        return {"api_key": text}

    def _azure(self) -> dict[str, Any]:
        version = self._params.get("api_version", NOTHING).text()
        return {"auth_header": "api-key"} | ({"query": {"api-version": version}} if version else {})

    def _headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        organisation = self._params.get("organization", NOTHING)
        if not isinstance(organisation.plain, list) and (text := organisation.text()):
            found["OpenAI-Organization"] = text
        for section in ("headers", "extra_headers"):
            for name, value in self._params.get(section, NOTHING).fields().items():
                try:
                    found[checks.header_name(name)] = checks.header_value(value.text() or "")
                except Refused as refused:
                    self._report(value.note(f"not taken over: {refused}"))
        return found

    def _timeouts(self) -> dict[str, Any]:
        total = self._seconds("timeout") or self._seconds_of(self._defaults.get("timeout"))
        first = self._seconds("stream_timeout") or self._seconds_of(self._defaults.get("stream_timeout"))
        return ({"first_byte": first} if first else {}) | ({"total": total} if total else {})

    def _seconds(self, name: str) -> Decimal | None:
        return self._seconds_of(self._params.get(name))

    def _seconds_of(self, value: Value | None) -> Decimal | None:
        if value is None or value.plain is None:
            return None
        found = value.number()
        if found is None or found <= 0:
            self._report(value.note("not a number of seconds: write it into `timeouts`"))
            return None
        return min(found, Decimal(_MOST_SECONDS))

    def _whole(self, name: str, least: int, most: int) -> int | None:
        value = self._params.get(name, NOTHING)
        found = value.number()
        if found is None:
            return None
        return max(least, min(int(found), most))

    def shares(self, beside: Mapping[str, Value]) -> dict[str, int]:
        fields = dict(beside) | {name: self._params[name] for name in ("weight", "rpm", "tpm") if name in self._params}
        numbers = {name: value.number() for name, value in fields.items()}
        return {name: int(number) for name, number in numbers.items() if number is not None and number >= 1}


def _operations(about: Mapping[str, Value], provider: str, report: Callable[[Note], None]) -> tuple[str, ...] | None:
    mode = about.get("mode")
    text = None if mode is None else mode.text()
    if mode is None or text is None:
        return ("completions",) if provider == "text-completion-openai" else None
    if text not in _MODES:
        report(mode.note("not a mode that is known: `operations` says what a model serves"))
    return _MODES.get(text)


def _price(fields: Mapping[str, Value], report: Callable[[Note], None]) -> dict[str, Any]:
    """Return a price of a million tokens each. Theirs are of one."""
    found: dict[str, Any] = {}
    above: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        base, separator, step = name.partition("_above_")
        if name in _PRICES:
            _put_price(found, _PRICES[name], value, report)
        elif separator and base in _PRICES and step.endswith("k_tokens") and step[:-8].isdecimal():
            _put_price(above.setdefault(f"{step[:-8]}000", {}), _PRICES[base], value, report)
    if found and above:
        found["above"] = [{"input_tokens": int(tokens)} | prices for tokens, prices in sorted(above.items(), key=_size)]
    return found


def _size(step: tuple[str, dict[str, Any]]) -> int:
    return int(step[0])


def _put_price(prices: dict[str, Any], name: str, value: Value, report: Callable[[Note], None]) -> None:
    number = value.number()
    if number is None or number < 0 or number * _MILLION > 10**9:
        report(value.note("not a price: write it into `price`, by the million tokens"))
    else:
        prices[name] = number * _MILLION


def _left_over(params: Mapping[str, Value], about: Mapping[str, Value], fields: Mapping[str, Value]) -> list[Note]:
    is_price = [name for name in (*params, *about) if name.partition("_above_")[0] in _PRICES]
    notes = []
    for note in notes_of("litellm_params", params, [*_TAKEN, *is_price]):
        is_known = note.text != UNKNOWN
        notes.append(note if is_known else note._replace(text=ADVICE["litellm_settings"]["drop_params"]))
    described = [name for name in about if name in _ABOUT or name.startswith("supports_")]
    for name, value in about.items():
        if name == "access_groups":
            notes.append(value.note("a plan with these models as `grants`, and `global: false` on them"))
            described.append(name)
    notes += notes_of("model_info", about, [*described, *is_price])
    return notes + notes_of("model_list", fields, ["model_name", "litellm_params", "model_info", "rpm", "tpm"])


def _of_organisations(deployment: Deployment, organisations: Value) -> list[Deployment]:
    if not isinstance(organisations.plain, list):
        return [deployment]
    found = []
    for each in organisations.items():
        headers = deployment.endpoint.get("headers", {}) | {"OpenAI-Organization": each.text()}
        found.append(deployment._replace(endpoint=deployment.endpoint | {"headers": headers}))
    return found
