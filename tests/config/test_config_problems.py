"""gateway.yaml that is wrong: every mistake is told with its file, line and path, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load_settings, parse_settings
from gateway.config.yaml.nodes import MAX_DEPTH
from gateway.errors import ConfigError

ONE_MODEL = "models:\n  - {id: 1, name: gpt, endpoints: [{id: a, url: http://up}]}\n"
SENTINEL_URL = "redis+sentinel://a:26379,b:26379/mymaster or …/mymaster/0"
HOSTS = "a:26379,b:26379 (ports from 1 to 65535 if any)"
ONE_DATABASE = "must not name a database: a Cluster has one, number 0"
REDIS_SCHEMES = "must begin with redis://, redis+sentinel://, redis+cluster://, rediss… (TLS) or unix://"
HASH = "sha256:" + "0" * 64


def problems_of(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        parse_settings(text, "gw.yaml", environ, Path("/srv"))
    return raised.value.problems


def endpoint(fields: str) -> str:
    return f"models:\n  - id: 1\n    name: m\n    endpoints:\n      - id: a\n        {fields}\n"


SHAPE = [
    ("[]", "1: (top level): expected a mapping, found a list"),
    ("just text", "1: (top level): expected a mapping, found a single value"),
    ("sever: {}", "1: sever: unknown key (did you mean 'server'?)"),
    ("server:\n  prot: 1", "2: server.prot: unknown key (did you mean 'port'?)"),
    ("server:\n  zzz: 1", "2: server.zzz: unknown key"),
    ('server:\n  "a\\nb": 1', "2: server.'a\\nb': unknown key"),
    ("server:\n  ? [a]\n  : 1", "2: server: a key must be text, found a list"),
    ("server: {port: 1}\nchat: {}\nserver: {}", "3: server: given twice (first on line 1)"),
    ("tiers: [a]\nusers: [{id: 1}]\nusers: []", "3: users: given twice (first on line 2)"),
    (
        "include: [3]\nserver: {}",
        "1: include[0]: expected text, found the whole number 3 (put it in quotes if text is meant)",
    ),
    ("include: ['']\nserver: {}", "1: include[0]: must not be empty"),
    ("features:\n  ai: true\n  ai: false", "3: features.ai: given twice (first on line 2)"),
    ("server: 5", "1: server: expected a mapping, found a single value"),
    ("server: !x {}", "1: server: expected a mapping, found a mapping with a YAML tag that has no meaning here"),
    ("server: {host: !env HOST}", "1: server.host: a YAML tag that has no meaning here"),
    ("models: {}", "1: models: expected a list, found a mapping"),
    ("users:\n  -", "2: users[0]: expected a mapping, found nothing"),
    ("tiers: []", "1: tiers: must have at least 1 entry"),
    ("users:\n  - {tier: free}", "2: users[0].id: is missing"),
    ("models:\n  - {id: 1, name: m, endpoints: []}", "2: models[0].endpoints: must have at least 1 entry"),
    ("models:\n  - {id: 1, name: m}", "2: models[0].endpoints: is missing"),
    ("models:\n  - {id: 1, name: m, endpoints: }", "2: models[0].endpoints: expected a list, found nothing"),
]

TAB = "YAML: indented with a tab; YAML wants spaces"
TABS = [
    ("server:\n\tport: 1", f"2: {TAB}"),
    ("keys:\n\t- {id: k}", f"2: {TAB}"),
    ("server:\n  port: 1\n\thost: x", f"3: {TAB}"),
    ("server:\n  port: 1\n  \thost: x", f"3: {TAB}"),
    ("\tserver: {}", f"1: {TAB}"),
]

SCALARS = [
    ("server: {port: eighty}", "1: server.port: expected a whole number, found the text 'eighty'"),
    ("server: {port: '80'}", "1: server.port: expected a whole number, found the text '80' (take the quotes away)"),
    ("server: {port: 80.0}", "1: server.port: expected a whole number, found the number 80.0"),
    ("server: {port: 080}", "1: server.port: expected a whole number, found the number 080"),
    ("server: {port: null}", "1: server.port: expected a whole number, found nothing"),
    ("server: {port: [80]}", "1: server.port: expected a whole number, found a list"),
    ("server: {port: 65536}", "1: server.port: must be at least 0 and at most 65535, found 65536"),
    ("server: {workers: 0}", "1: server.workers: must be at least 1 and at most 1024, found 0"),
    ("server: {timeouts: {head: 0}}", "1: server.timeouts.head: must be above 0 and at most 86400, found 0"),
    ("server: {drain_seconds: .inf}", "1: server.drain_seconds: expected a number, found the number .inf"),
    ("server: {metrics_public: 1}", "1: server.metrics_public: expected true or false, found the whole number 1"),
    ("server: {metrics_public: 'yes'}", "1: server.metrics_public: expected true or false, found the text 'yes'"),
    ("server: {host: yes}", "1: server.host: expected text, found the boolean yes (put it in quotes if text is meant)"),
    ("server: {host: 1.5}", "1: server.host: expected text, found the number 1.5 (put it in quotes if text is meant)"),
    ("server: {host: ''}", "1: server.host: must not be empty"),
    ('server: {host: "a\\x00b"}', "1: server.host: must not hold control characters"),
    (
        "store: {kind: reddis}",
        "1: store.kind: expected one of embedded, redis, found the text 'reddis' (did you mean 'redis'?)",
    ),
    ("usage: {retention_days: 0}", "1: usage.retention_days: must be at least 1 and at most 100000, found 0"),
    (
        "users:\n  - id: true",
        "2: users[0].id: expected an id (a whole number or text), found the boolean true "
        "(put it in quotes if text is meant)",
    ),
    (
        "users:\n  - id: 1.0",
        "2: users[0].id: expected an id (a whole number or text), found the number 1.0 "
        "(put it in quotes if text is meant)",
    ),
    ("users:\n  - id: 99999999999999999999", "2: users[0].id: too large for a number; put it in quotes"),
    ("users:\n  - id: ''", "2: users[0].id: an id must be printable, not empty, and without spaces at its ends"),
    ("users:\n  - {id: 1, name: ' x'}", "2: users[0].name: must not begin or end with a space"),
]

VALUES = [
    (endpoint("url: ftp://up"), "6: models[0].endpoints[0].url: must begin with http:// or https://"),
    (
        endpoint("url: https://user:pw@up/v1"),
        "6: models[0].endpoints[0].url: must not hold a user or password; use `api_key` or `headers`",
    ),
    (endpoint("url: http://up/v1?a=b"), "6: models[0].endpoints[0].url: must not have a query; put it under `query`"),
    (endpoint("url: 'http://up/v1#x'"), "6: models[0].endpoints[0].url: must not have a fragment (`#…`)"),
    (
        endpoint("url: http://up/v1/chat/completions"),
        "6: models[0].endpoints[0].url: must be the base URL, without `/chat/completions`",
    ),
    (
        endpoint("url: 'http://:80/v1'"),
        "6: models[0].endpoints[0].url: must have a valid host (and a port from 1 to 65535 if any)",
    ),
    (
        endpoint("url: 'http://up:99999'"),
        "6: models[0].endpoints[0].url: must have a valid host (and a port from 1 to 65535 if any)",
    ),
    (endpoint("url: 'http://[::1'"), "6: models[0].endpoints[0].url: not a valid URL"),
    (
        endpoint('url: "http://u\\tp"'),
        "6: models[0].endpoints[0].url: must be printable ASCII without spaces "
        "(a host in its xn-- form, a path percent-encoded)",
    ),
    (
        endpoint("{url: http://up}"),
        "7: YAML: could not find expected ':' (while scanning a simple key)",
    ),
    (
        endpoint("url: http://up\n        headers: {Host: x}"),
        "7: models[0].endpoints[0].headers.Host: a header that the gateway sets itself",
    ),
    (
        endpoint("url: http://up\n        pass_headers: ['a b']"),
        "7: models[0].endpoints[0].pass_headers[0]: not a valid header name",
    ),
    (endpoint("url: http://up\n        account: ''"), "7: models[0].endpoints[0].account: must not be empty"),
    (
        endpoint("url: http://up\n        headers: {'a b': x}"),
        "7: models[0].endpoints[0].headers.a b: not a valid header name",
    ),
    (
        endpoint('url: http://up\n        headers: {x-a: "v\\r\\nx-b: w"}'),
        "7: models[0].endpoints[0].headers.x-a: not a valid header value (printable ASCII, no space at either end)",
    ),
    (
        endpoint("url: http://up\n        headers:\n          X-A: v\n          x-a: w"),
        "9: models[0].endpoints[0].headers.x-a: the same header as 'X-A'",
    ),
    (
        endpoint("url: http://up\n        api_key: k\n        headers: {Authorization: Basic abc}"),
        "8: models[0].endpoints[0].headers.Authorization: "
        "`api_key` is sent in this header already; give one of the two",
    ),
    (
        endpoint("url: http://up\n        api_key: Bearer abc"),
        "7: models[0].endpoints[0].api_key: give the bare key: `Bearer` is added where it is needed",
    ),
    (
        "server: {private_endpoints: [10.0.0.1/8]}",
        "1: server.private_endpoints[0]: not an address range such as 10.0.0.0/8 (did you mean '10.0.0.0/8'?)",
    ),
    ("server: {private_endpoints: [here]}", "1: server.private_endpoints[0]: not an address range such as 10.0.0.0/8"),
    (
        "server: {cors_origins: ['https://a.example/x']}",
        "1: server.cors_origins[0]: must be `*` or an origin such as https://app.example.com, without a path",
    ),
    *(
        (f"store: {{url: '{url}'}}", f"1: store.url: {REDIS_SCHEMES}")
        for url in ("http://x", "redis+tls://x", "redis", "REDIS-CLUSTER://a", "unix+sentinel://a/b")
    ),
    (
        "store: {url: 'redis://:p@a:1,b:2/0'}",
        "1: store.url: must name one server; several are redis+sentinel://… or redis+cluster://…",
    ),
    *(
        (f"store: {{url: '{url}'}}", f"1: store.url: must name the service, as in {SENTINEL_URL}")
        for url in ("redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a/main/x", "redis+sentinel://a//0")
    ),
    *(
        (f"store: {{url: '{url}'}}", f"1: store.url: must name valid hosts, as in {HOSTS}")
        for url in ("redis+cluster://a,,b", "rediss+cluster://a:0,b", "redis+sentinel://u:p@a:x/m", "redis+cluster://")
    ),
    ("store: {url: 'redis+cluster://a,b/1'}", f"1: store.url: {ONE_DATABASE}"),
    ("store: {url: 'redis+cluster://a?db=3'}", f"1: store.url: {ONE_DATABASE}"),
    *(
        (f"store: {{url: '{url}'}}", "1: store.url: has an option that is not known")
        for url in ("redis://a?surprise=1", "redis://a?sentinel_password=x", "redis+cluster://a?host=b")
    ),
    ("store: {url: 'redis://a?protocol=4'}", "1: store.url: must have 2 or 3 as its option `protocol`"),
    ("store: {ca_file: /nowhere/ca.pem}", "1: store.ca_file: the file cannot be read: No such file or directory"),
    *(
        (f"store: {{url: '{url}'}}", "1: store.url: must have a valid host (and a port from 1 to 65535 if any)")
        for url in ("redis://a:99999", "redis://a:x/0", "redis://u:p@a:0")
    ),
    ("store: {url: 'unix://run/x'}", "1: store.url: must name a socket: unix:///run/redis.sock"),
    (
        "store: {url: 'redis://a/main'}",
        "1: store.url: must end with the number of a database, as in redis://127.0.0.1:6379/0, or nothing",
    ),
    ("usage: {url: 'postgresql://u:p@h:99999/db'}", "1: usage.url: must have a port from 1 to 65535 if any"),
    ("usage: {url: 'mysql://u:p@h:x/db'}", "1: usage.url: must have a port from 1 to 65535 if any"),
    ("usage: {url: 'postgresql://u:p@[::1]:0/db'}", "1: usage.url: must have a port from 1 to 65535 if any"),
    (
        "usage: {url: oracle://x}",
        "1: usage.url: must begin with sqlite:// or postgresql:// or mysql:// or mariadb://",
    ),
    (
        "usage: {url: 'sqlite://'}",
        "1: usage.url: must name a file: sqlite:///relative/path or sqlite:////absolute/path",
    ),
    (
        "usage: {url: 'sqlite:///:memory:'}",
        "1: usage.url: must name a file: sqlite:///relative/path or sqlite:////absolute/path",
    ),
    ("keys:\n  - {id: k, user: u, key: short}", "2: keys[0].key: must be at least 24 characters"),
    (
        "keys:\n  - {id: k, user: u, hash: 'sha256:12'}",
        "2: keys[0].hash: must be `sha256:` and 64 hexadecimal digits",
    ),
    ("keys:\n  - {id: k, user: u}", "2: keys[0]: needs either `hash` or `key`"),
    (
        f"keys:\n  - {{id: k, user: u, hash: '{HASH}', key: {'k' * 24}}}",
        "2: keys[0]: needs either `hash` or `key`, not both",
    ),
    (
        f"keys:\n  - {{id: k, user: u, hash: '{HASH}', scopes: [ai:usee]}}",
        "2: keys[0].scopes[0]: expected one of act:as, ai:manage, ai:use, usage:read, "
        "found the text 'ai:usee' (did you mean 'ai:use'?)",
    ),
    (
        f"keys:\n  - {{id: k, user: u, hash: '{HASH}', expires: tomorrow}}",
        "2: keys[0].expires: expected a date or time such as 2027-01-01 or 2027-01-01T00:00:00Z, "
        "found the text 'tomorrow'",
    ),
    (
        "models:\n  - {id: 1, name: m, limits: {rpm: 0}, endpoints: [{id: a, url: http://up}]}",
        "2: models[0].limits.rpm: must be at least 1 and at most 9,007,199,254,740,992, found 0",
    ),
]

REFERENCES = [
    (
        "models:\n  - {id: 1, name: a, endpoints: [{id: e, url: http://up}]}\n"
        "  - {id: '1', name: b, endpoints: [{id: e, url: http://up}]}",
        "3: models[1].id: '1' is taken by models[0].id (line 2) already",
    ),
    (
        "models:\n  - {id: 1, name: a, aliases: [b], endpoints: [{id: e, url: http://up}]}\n"
        "  - {id: 2, name: b, endpoints: [{id: e, url: http://up}]}",
        "3: models[1].name: 'b' is taken by models[0].aliases[0] (line 2) already",
    ),
    (
        "models:\n  - {id: 1, name: a, aliases: [a], endpoints: [{id: e, url: http://up}]}",
        "2: models[0].aliases[0]: 'a' is taken by models[0].name (line 2) already",
    ),
    (
        "models:\n  - {id: 1, name: a, endpoints: [{id: e, url: http://up}, {id: e, url: http://up}]}",
        "2: models[0].endpoints[1].id: 'e' is already the id of models[0].endpoints[0] (line 2)",
    ),
    (
        "models:\n  - {id: 1, name: a, fallbacks: [1], endpoints: [{id: e, url: http://up}]}",
        "2: models[0].fallbacks[0]: a model cannot be its own fallback",
    ),
    (
        "models:\n  - {id: 1, name: llama, endpoints: [{id: e, url: http://up}]}\n"
        "  - {id: 2, name: b, fallbacks: [lama], endpoints: [{id: e, url: http://up}]}",
        "3: models[1].fallbacks[0]: no model has the id, name or alias 'lama' (did you mean 'llama'?)",
    ),
    (
        "models:\n  - {id: 1, name: a, endpoints: [{id: e, url: http://up}]}\n"
        "  - {id: 2, name: b, fallbacks: [a, 1], endpoints: [{id: e, url: http://up}]}",
        "3: models[1].fallbacks[1]: '1' is in this list already",
    ),
    (
        ONE_MODEL + "plans:\n  - id: pro\n    grants:\n      - {model: gtp}",
        "6: plans[0].grants[0].model: no model has the id, name or alias 'gtp' (did you mean 'gpt'?)",
    ),
    (
        ONE_MODEL + "users:\n  - id: 1\n    grants:\n      - {model: gpt}\n      - {id: 7, model: 1}",
        "7: users[0].grants[1].model: '1' is already granted by users[0].grants[0] (line 6)",
    ),
    (
        "models:\n  - {id: 1, name: a, endpoints: [{id: e, url: http://up}]}\n"
        "  - {id: 2, name: b, endpoints: [{id: e, url: http://up}]}\n"
        "users:\n  - id: 1\n    grants:\n      - {id: 7, model: 1}\n      - {id: '7', model: 2}",
        "8: users[0].grants[1].id: '7' is already the id of users[0].grants[0] (line 7)",
    ),
    ("users:\n  - {id: 1, tier: fre}", "2: users[0].tier: no such tier: 'fre' (did you mean 'free'?)"),
    ("users:\n  - {id: 1}\n  - {id: '1'}", "3: users[1].id: '1' is already the id of users[0] (line 2)"),
    (
        "organisations:\n  - {id: 10, name: Example}\nusers:\n  - {id: 1, organisations: [Example]}",
        "4: users[0].organisations[0]: no organisation has the id 'Example' (did you mean its id, '10'?)",
    ),
    (
        "plans:\n  - {id: pro}\nusers:\n  - id: 1\n    plans:\n      - pro\n      - prro",
        "7: users[0].plans[1]: no plan has the id 'prro' (did you mean 'pro'?)",
    ),
    (
        "plans:\n  - {id: pro}\nusers:\n  - {id: 1, plans: [pro, pro]}",
        "4: users[0].plans[1]: 'pro' is in this list already",
    ),
    (
        f"keys:\n  - {{id: k, user: u, hash: '{HASH}'}}\n  - {{id: l, user: u, hash: '{HASH}'}}",
        "3: keys[1]: the same key as keys[0] (line 2)",
    ),
    ("tiers: [a, b, a]", "1: tiers[2]: 'a' is in this list already"),
    ("tiers: [a, b]\nstudio: {tier: c}", "2: studio.tier: no such tier: 'c'"),
    ("server: {workers: 2}", "1: server.workers: more than one worker needs `store.kind: redis`"),
]

SYNTAX = [
    ("server:\n  port: 1\n bad", "3: YAML: did not find expected key (while parsing a block mapping)"),
    ("a: *nowhere", "1: YAML: found undefined alias"),
    ("a: 1\n---\nb: 2", "2: YAML: but found another document (expected a single document in the stream)"),
    ("server: {host: a\x07b}", "1: YAML: control characters are not allowed"),
    ("a: \ud800", "1: YAML: a character that UTF-8 does not have"),
    ("a: &a [*a]", "1: YAML: an anchor that contains itself"),
    ("server: {<<: 5}", "1: YAML: `<<` takes a mapping or a list of mappings"),
    (
        "keys:\n  - {id: k, key: ${KEY}}",
        "2: YAML: did not find expected ',' or '}' (while parsing a flow mapping)"
        "; inside {…} and […] a ${…} needs quotes around it",
    ),
    ("server: " + "[" * 100_000, f"1: YAML: nested more than {MAX_DEPTH} levels deep"),
    ("- " * 100_000, f"1: YAML: nested more than {MAX_DEPTH} levels deep"),
]

REFERENCES_TO_VALUES = [
    ("server:\n  host: ${HOST}", "2: server.host: the environment variable HOST is not set"),
    (
        "server:\n  host: ${file:nowhere}",
        "2: server.host: the file 'nowhere' cannot be read: No such file or directory",
    ),
    ("server:\n  host: ${file:.}", "2: server.host: the file '.' cannot be read: not a regular file"),
    (
        "server:\n  host: ${HOST",
        "2: server.host: a `${` that is not closed, or has braces inside (write `$${` for a literal one)",
    ),
    (
        "server:\n  host: ${a-b}",
        "2: server.host: a `${…}` that is neither ${NAME}, ${NAME:-default} nor ${file:PATH} (`$${` is a literal `${`)",
    ),
]


@pytest.mark.parametrize(
    ("text", "problem"), [*SHAPE, *SCALARS, *VALUES, *REFERENCES, *SYNTAX, *TABS, *REFERENCES_TO_VALUES]
)
def test_each_mistake_is_told_once_with_its_line_and_path(text: str, problem: str) -> None:
    assert problems_of(text) == (f"gw.yaml:{problem}",)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of(
        "server: {prot: 1, port: x}\n"
        "users:\n"
        "  - {id: 1, tier: gold, grants: [{model: nope}], plans: [pro]}\n"
        "models:\n"
        "  - {id: 1, name: 5, endpoints: [{id: a, url: up, weight: 0}]}\n"
        "keys:\n"
        "  - {id: k, user: 1, key: '${MISSING}'}\n",
        HTTPS_PROXY="socks5://p:1",
    )

    assert problems == (
        "environment: HTTPS_PROXY: only proxies of the form http://host:port are understood",
        "gw.yaml:1: server.prot: unknown key (did you mean 'port'?)",
        "gw.yaml:1: server.port: expected a whole number, found the text 'x'",
        "gw.yaml:3: users[0].grants[0].model: no model has the id, name or alias 'nope'",
        "gw.yaml:3: users[0].tier: no such tier: 'gold'",
        "gw.yaml:3: users[0].plans[0]: no plan has the id 'pro'",
        "gw.yaml:5: models[0].name: expected text, found the whole number 5 (put it in quotes if text is meant)",
        "gw.yaml:5: models[0].endpoints[0].url: must begin with http:// or https://",
        "gw.yaml:5: models[0].endpoints[0].weight: must be at least 1 and at most 1,000,000, found 0",
        "gw.yaml:7: keys[0].key: the environment variable MISSING is not set",
    )


def test_a_model_that_has_problems_of_its_own_is_still_known_to_grants() -> None:
    problems = problems_of(
        "models:\n  - {id: 1, name: gpt, endpoints: []}\nusers:\n  - {id: 1, grants: [{model: gpt}]}\n"
    )
    assert problems == ("gw.yaml:2: models[0].endpoints: must have at least 1 entry",)


@pytest.mark.parametrize(
    "proxy", ["https://p:3128", "p:99999", "socks5://p:1", "http://", "http://p:99999", "http://a b"]
)
def test_a_proxy_that_is_not_understood_is_a_problem_that_names_the_variable(proxy: str) -> None:
    text = "models:\n  - {id: 1, name: m, endpoints: [{id: a, url: 'SCHEME://up'}]}\n"
    (problem,) = problems_of(text.replace("SCHEME", "https"), https_proxy=proxy)
    assert problem.startswith("environment: https_proxy: ")
    assert proxy not in problem
    # Where it is not needed it stops nothing, and whatever needs it later is not sent past it.
    settings = parse_settings(text.replace("SCHEME", "http"), "gw.yaml", {"https_proxy": proxy}, Path("/srv"))
    assert settings.proxy.https_proxy is None
    assert settings.proxy.refusal == problem.removeprefix("environment: ")


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing yet\n", "null\n", "---\n", "~", "{}", "---\n...\n", "\ufeff"])
def test_a_file_without_any_section_is_broken(text: str) -> None:
    """An editor that saves, `> file`, a copy onto a full disk: for a moment or for good the file holds nothing."""
    assert problems_of(text) == (
        "gw.yaml:1: (top level): the file has no section: it is empty, or holds comments alone",
    )


def test_a_missing_file_and_one_that_is_not_utf8_are_configuration_errors(tmp_path: Path) -> None:
    missing, latin = tmp_path / "missing.yaml", tmp_path / "latin.yaml"
    latin.write_bytes("server:\n  host: ä\n".encode("latin-1"))

    with pytest.raises(ConfigError) as of_missing:
        load_settings(missing, {})
    with pytest.raises(ConfigError) as of_latin:
        load_settings(str(latin), {})

    assert of_missing.value.problems == (f"{missing}:1: cannot be read: No such file or directory",)
    assert of_latin.value.problems == (f"{latin}:2: YAML: not UTF-8 text",)


def test_aliases_that_multiply_are_refused_before_they_are_followed() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert problems_of("\n".join(lines)) == ("gw.yaml:1: YAML: aliases stand for more than 1,000,000 values",)


def test_aliases_do_not_get_past_the_bound_on_depth() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2_000))]
    assert problems_of("\n".join(lines)) == (
        f"gw.yaml:{MAX_DEPTH + 1}: YAML: nested more than {MAX_DEPTH} levels deep by its aliases",
    )


def test_thousands_of_mistakes_are_all_told() -> None:
    users = "".join(f"  - {{id: {n}, tierr: paid, organisations: [x{n}]}}\n" for n in range(5_000))
    assert len(problems_of("users:\n" + users)) == 10_000


def test_the_section_surface_is_checked_with_its_lines() -> None:
    text = "surface:\n  extra: [videos, vidoes]\n  unknown_objects: pass\n  object_days: 0\n  object_day: 3\n"
    found = problems_of(text)
    assert [line.split(": ")[1] for line in found] == [
        "surface.extra[1]",
        "surface.unknown_objects",
        "surface.object_days",
        "surface.object_day",
    ]
    assert [line.split(": ")[0].rpartition(":")[2] for line in found] == ["2", "3", "4", "5"]
    assert "(did you mean 'videos'?)" in found[0]
    assert "did you mean" in found[3]
