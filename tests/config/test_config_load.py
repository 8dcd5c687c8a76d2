"""gateway.yaml that is right: what comes out of it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from gateway.config import Settings, id_of_grant, load_settings, parse_settings, settings
from gateway.config.record_shapes import LimitsShape, TimeoutsShape
from gateway.config.sections import listening_side
from gateway.pricing import Price
from gateway.types import Endpoint, Grant, Limits, Model, Secret, Timeouts

BASE = Path("/srv/gateway")
ROOT = Path(__file__).parents[2]
ONE_MODEL = "models:\n  - {id: 1, name: gpt, aliases: [gpt-latest], endpoints: [{id: a, url: http://up}]}\n"


def parse(text: str, **environ: str) -> Settings:
    return parse_settings(text, "gateway.yaml", environ, BASE)


def endpoint_of(fields: str, **environ: str) -> Endpoint:
    text = f"models:\n  - {{id: 1, name: m, endpoints: [{{id: a, {fields}}}]}}\n"
    return parse(text, **environ).models[0].endpoints[0]


@pytest.mark.parametrize("text", ["models:", "server: {}\n", "server:\nmodels:\nkeys:\ntiers:\n"])
def test_sections_without_content_give_every_default_of_the_contract(text: str) -> None:
    loaded = parse(text)

    assert loaded.server == listening_side.ServerSettings(
        host="127.0.0.1",
        port=8080,
        workers=1,
        max_body_mb=32,
        max_in_flight=10_000,
        max_connections=20_000,
        timeouts=listening_side.ClientTimeouts(head=10, body=60, write=60, keepalive=75),
        stream_heartbeat_seconds=15,
        drain_seconds=30,
        private_endpoints=(),
        metrics_public=False,
        cors_origins=(),
    )
    assert loaded.features == {"ai": True}
    assert loaded.store == settings.StoreSettings(
        kind="embedded", path="/srv/gateway/data", url=Secret("redis://127.0.0.1:6379/0"), prefix="gw:"
    )
    assert loaded.usage == settings.UsageSettings(
        url=Secret("sqlite:////srv/gateway/data/usage.db"), journal="/srv/gateway/data/journal", retention_days=None
    )
    refused = ("models", "fallbacks", "provider", "route", "api_base", "api_key")
    assert loaded.routing == settings.RoutingSettings(unknown_model="assigned", refuse_fields=refused)
    assert loaded.surface == settings.SurfaceSettings(extra=(), unknown_objects="refuse", object_days=400)
    assert loaded.tiers == ("free", "paid", "enterprise")
    assert loaded.chat.max_tokens == 4096
    assert loaded.studio.tier == "paid"
    assert (loaded.models, loaded.organisations, loaded.plans, loaded.users, loaded.keys) == ((), (), (), (), ())
    assert loaded.proxy == settings.ProxySettings(https_proxy=None, no_proxy="")


@pytest.mark.parametrize(("shape", "record"), [(LimitsShape, Limits), (TimeoutsShape, Timeouts)])
def test_file_shapes_have_the_fields_and_defaults_of_the_records(shape: type, record: type) -> None:
    assert msgspec.structs.asdict(shape()) == msgspec.structs.asdict(record())


def test_a_model_keeps_everything_that_its_record_says() -> None:
    loaded = parse(
        """
models:
  - id: 1
    name: gpt-4o
    aliases: [gpt-4o-latest]
    provider_model: gpt-4o-2024-11-20
    tags: [chat, vision]
    global: true
    limits: {rpm: 60, tokens: 2_000_000, period: day}
    fallbacks: [local-llama]
    price: {input: 2.50, output: 10}
    rotation: least_busy
    endpoints:
      - id: 7
        url: https://api.openai.com/v1/
        api_key: ${OPENAI_API_KEY}
        weight: 3
        priority: 1
        headers: {OpenAI-Organization: org-x}
        query: {api-version: 2024-10-21}
        auth_header: api-key
        provider_model: other
        max_in_flight: 5
        stream_usage: false
        account: main
        objects: false
        timeouts: {connect: 1.5}
  - {id: two, name: local-llama, endpoints: [{id: box, url: http://10.0.0.5:8000/v1}]}
""",
        OPENAI_API_KEY="sk-from-environment",
    )

    first, second = loaded.models
    endpoint = first.endpoints[0]
    assert (first.id, first.name, first.aliases, first.tags) == (1, "gpt-4o", ("gpt-4o-latest",), ("chat", "vision"))
    assert (first.provider_model, first.is_global, first.rotation) == ("gpt-4o-2024-11-20", True, "least_busy")
    assert first.limits == Limits(rpm=60, tokens=2_000_000, period="day")
    assert first.price == Price(input=2.5, output=10)
    assert first.fallbacks == ("two",)
    assert (endpoint.id, endpoint.url, endpoint.api_key) == (
        7,
        "https://api.openai.com/v1",
        Secret("sk-from-environment"),
    )
    assert (endpoint.weight, endpoint.priority, endpoint.max_in_flight) == (3, 1, 5)
    assert endpoint.headers == {"OpenAI-Organization": Secret("org-x")}
    assert endpoint.query == {"api-version": Secret("2024-10-21")}
    assert (endpoint.auth_header, endpoint.provider_model, endpoint.stream_usage) == ("api-key", "other", False)
    assert (endpoint.account, endpoint.objects) == ("main", False)
    assert (second.endpoints[0].account, second.endpoints[0].objects) == (None, True)
    assert endpoint.timeouts == Timeouts(connect=1.5, first_byte=120, idle=60, total=600)
    assert second == Model(id="two", name="local-llama", provider_model="local-llama", endpoints=second.endpoints)


def test_grants_name_a_model_by_id_name_or_alias_and_keep_its_id_as_text() -> None:
    for written in ("1", '"1"', "gpt", "gpt-latest"):
        loaded = parse(
            ONE_MODEL + f"users:\n  - {{id: 42, grants: [{{id: 7, model: {written}, limits: {{rpm: 3}}}}]}}\n"
        )
        assert loaded.users[0].grants == (Grant(id=7, model="1", limits=Limits(rpm=3)),)


def test_a_grant_without_id_gets_one_that_depends_on_owner_and_model_alone() -> None:
    by_name = parse(ONE_MODEL + "users:\n  - {id: 42, grants: [{model: gpt}]}\n").users[0]
    by_id = parse(ONE_MODEL + "users:\n  - {id: 1}\n  - {id: '42', grants: [{model: 1}]}\n").users[1]
    plan = parse(ONE_MODEL + "plans:\n  - {id: 42, grants: [{model: gpt}]}\n").plans[0]
    as_name, as_id = (id_of_grant(each.grants[0], "user", each.id) for each in (by_name, by_id))

    assert as_name == as_id == hashlib.sha256(b"user:42:1").hexdigest()[:16]
    assert id_of_grant(plan.grants[0], "plan", plan.id) != as_name


def test_a_grant_s_own_id_is_kept() -> None:
    user = parse(ONE_MODEL + "users:\n  - {id: 42, grants: [{id: 7, model: gpt}]}\n").users[0]
    assert id_of_grant(user.grants[0], "user", user.id) == 7


def test_users_take_the_lowest_tier_and_keep_their_memberships_in_order_as_text() -> None:
    loaded = parse(
        "tiers: [basic, gold]\n"
        "organisations:\n  - {id: 10, name: Ten}\n  - {id: 9}\n"
        "plans:\n  - {id: pro}\n"
        "users:\n  - {id: 42, organisations: [10, '9'], plans: [pro]}\n  - {id: x, tier: gold}\n"
    )

    assert [(user.id, user.tier) for user in loaded.users] == [(42, "basic"), ("x", "gold")]
    assert (loaded.users[0].organisations, loaded.users[0].plans) == (("10", "9"), ("pro",))
    assert [organisation.name for organisation in loaded.organisations] == ["Ten", None]


@pytest.mark.parametrize(
    ("tiers", "studio"),
    [("[a, b, c]", "b"), ("[only]", "only"), ("[a, b]\nstudio: {tier: a}", "a"), ("\nstudio:", "paid")],
)
def test_studio_wants_the_second_tier_where_the_file_does_not_say(tiers: str, studio: str) -> None:
    assert parse(f"tiers: {tiers}\n").studio.tier == studio


def test_a_plain_key_is_kept_as_its_hash_and_a_hash_in_lower_case() -> None:
    plain = "k" * 24
    loaded = parse(
        "keys:\n"
        "  - {id: panel, user: panel, key: '${PANEL_KEY}', scopes: [act:as, ai:use], limits: {rpm: 5}}\n"
        f"  - {{id: 2, user: 42, hash: 'sha256:{'AB' * 32}'}}\n",
        PANEL_KEY=plain,
    )

    panel, second = loaded.keys
    assert (panel.id, panel.user, panel.sha256) == ("panel", "panel", hashlib.sha256(plain.encode()).hexdigest())
    assert (panel.scopes, panel.limits) == (frozenset(("act:as", "ai:use")), Limits(rpm=5))
    assert (second.id, second.user, second.sha256, second.scopes) == (2, 42, "ab" * 32, frozenset(("ai:use",)))


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T00:00:00Z", datetime(2027, 1, 1, tzinfo=UTC)),
        ('"2027-01-01 12:30"', datetime(2027, 1, 1, 12, 30, tzinfo=UTC)),
        ("2027-01-01T02:00:00+02:00", datetime(2027, 1, 1, tzinfo=UTC)),
        ("${WHEN:-2027-01-01}", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_expiry_is_a_moment_in_utc_however_it_is_written(written: str, moment: datetime) -> None:
    loaded = parse(f"keys:\n  - id: k\n    user: u\n    hash: sha256:{'0' * 64}\n    expires: {written}\n")
    expires = loaded.keys[0].expires
    assert expires == moment
    assert expires is not None
    assert expires.tzinfo is UTC


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/", "https://api.openai.com/v1"),
        ("HTTPS://API.OpenAI.com/V1/", "https://api.openai.com/V1"),
        ("http://[2001:db8::1]:8000/base//", "http://[2001:db8::1]:8000/base"),
        ("http://local_host.:1/a%20b", "http://local_host.:1/a%20b"),
    ],
)
def test_endpoint_urls_lose_their_last_slash_and_gain_v1_where_they_have_no_path(written: str, url: str) -> None:
    assert endpoint_of(f"url: '{written}'").url == url


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("sqlite:///data/usage.db", "sqlite:////srv/gateway/data/usage.db"),
        ("sqlite:////var/lib/usage.db?timeout=5", "sqlite:////var/lib/usage.db?timeout=5"),
        ("sqlite:///../usage.db", "sqlite:////srv/usage.db"),
        ("postgresql+psycopg://gw:pw@db/usage", "postgresql+psycopg://gw:pw@db/usage"),
        ("mysql://gw:pw@db/usage", "mysql://gw:pw@db/usage"),
    ],
)
def test_only_a_relative_sqlite_path_is_moved_to_the_directory_of_the_file(written: str, url: str) -> None:
    assert parse(f"usage: {{url: '{written}'}}\n").usage.url == Secret(url)


def test_relative_paths_start_from_the_directory_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("\ufeffstore: {path: kept}\nusage: {journal: /var/journal}\n", encoding="utf-8")

    loaded = load_settings(path, {})

    assert loaded.store.path == str(tmp_path / "kept")
    assert loaded.usage.journal == "/var/journal"
    assert loaded.source == str(path)


def test_lines_tell_where_each_record_is_defined() -> None:
    loaded = parse(
        "features:\n  ai: true\n  beta: off\n"
        + ONE_MODEL
        + "organisations:\n  - {id: 10}\nplans:\n  - {id: pro}\nusers:\n  -\n    id: 42\n"
        + f"keys:\n  - {{id: k, user: u, hash: 'sha256:{'0' * 64}'}}\n"
    )

    assert loaded.features == {"ai": True, "beta": False}
    assert loaded.lines == {
        ("feature", "ai"): 2,
        ("feature", "beta"): 3,
        ("model", "1"): 5,
        ("organisation", "10"): 7,
        ("plan", "pro"): 9,
        ("user", "42"): 12,
        ("key", "k"): 14,
    }


def test_anchors_aliases_and_merge_keys_work() -> None:
    loaded = parse(
        "users:\n"
        "  - &base {id: 1, tier: paid, grants: [{id: 7, model: gpt, limits: &limits {rpm: 5, period: day}}]}\n"
        "  - {<<: *base, id: 2}\n"
        "  - {id: 3, tier: free, <<: [{tier: enterprise}, *base]}\n"
        "plans:\n  - {id: pro, grants: [{id: 8, model: gpt, limits: {<<: *limits, rpm: 6}}]}\n" + ONE_MODEL
    )

    assert [(user.id, user.tier, len(user.grants)) for user in loaded.users] == [
        (1, "paid", 1),
        (2, "paid", 1),
        (3, "free", 1),
    ]
    assert loaded.plans[0].grants[0].limits == Limits(rpm=6, period="day")


def test_numbers_booleans_and_choices_may_come_from_the_environment() -> None:
    loaded = parse(
        "server: {port: '${PORT}', metrics_public: '${PUBLIC}', drain_seconds: '${DRAIN:-2.5}'}\n"
        "store:\n  kind: ${KIND}\n"
        "usage:\n  retention_days: ${DAYS:-90}\n",
        PORT="9000",
        PUBLIC="yes",
        KIND="redis",
    )

    assert (loaded.server.port, loaded.server.metrics_public, loaded.server.drain_seconds) == (9000, True, 2.5)
    assert (loaded.store.kind, loaded.usage.retention_days) == ("redis", 90)


def test_an_expanded_id_stays_text_and_ids_keep_their_type() -> None:
    loaded = parse("users:\n  - id: ${ID}\n  - id: 42\n  - id: '43'\n  - id: a/b c\n", ID="7")
    assert [user.id for user in loaded.users] == ["7", 42, "43", "a/b c"]


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({"HTTPS_PROXY": "http://a:3128"}, "http://a:3128"),
        ({"HTTPS_PROXY": "http://a:3128", "https_proxy": "http://u:p@b:1/"}, "http://u:p@b:1/"),
        ({"HTTPS_PROXY": "http://a:3128", "https_proxy": ""}, "http://a:3128"),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "proxy.corp:3128"}, "http://proxy.corp:3128"),
        ({"https_proxy": " proxy.corp:3128/ "}, "http://proxy.corp:3128/"),
        ({"https_proxy": "user:p%40ss@proxy.corp"}, "http://user:p%40ss@proxy.corp"),
        ({"HTTPS_PROXY": "HTTP://a:1"}, "HTTP://a:1"),
        ({"ALL_PROXY": "a:1"}, "http://a:1"),
        ({"ALL_PROXY": "a:1", "all_proxy": "http://b:1"}, "http://b:1"),
        ({"all_proxy": "http://b:1", "HTTPS_PROXY": "c:1"}, "http://c:1"),
        ({"ALL_PROXY": "socks5h://a:1"}, None),
    ],
)
def test_the_proxy_comes_from_the_environment_in_lower_case_first(environ: dict[str, str], proxy: str | None) -> None:
    with_https = "models: [{id: 1, name: m, endpoints: [{id: a, url: 'https://upstream.example'}]}]"
    loaded = parse_settings(with_https, "gateway.yaml", {"NO_PROXY": "localhost,.lan", **environ}, BASE)
    assert loaded.proxy.https_proxy == (Secret(proxy) if proxy else None)
    assert loaded.proxy.no_proxy == "localhost,.lan"


def test_origins_and_address_ranges_are_normalised() -> None:
    loaded = parse(
        "server:\n  private_endpoints: [10.0.0.0/8, 192.168.1.5, 'fd00::/8']\n  cors_origins: ['*', HTTPS://App.example.com/]\n"
    )
    assert loaded.server.private_endpoints == ("10.0.0.0/8", "192.168.1.5/32", "fd00::/8")
    assert loaded.server.cors_origins == ("*", "https://app.example.com")


WITHOUT_LIBYAML = """
import sys, yaml
yaml.__with_libyaml__ = False
from gateway.config import load_settings
from gateway.config.yaml.nodes import _Parser
from gateway.errors import ConfigError

assert issubclass(_Parser, yaml.parser.Parser)
good, bad, deep = sys.argv[1:]
assert load_settings(good, {"OPENAI_API_KEY": "k", "PANEL_KEY": "p" * 24}).models[1].name == "local-llama"
for path in (bad, deep):
    try:
        load_settings(path, {})
    except ConfigError as error:
        print(error)
"""


def test_the_loader_works_where_pyyaml_was_built_without_libyaml(tmp_path: Path) -> None:
    bad, deep = tmp_path / "bad.yaml", tmp_path / "deep.yaml"
    bad.write_text("server:\n  host: 1\n  \x07", encoding="utf-8")
    deep.write_text("[" * 5_000, encoding="utf-8")
    arguments = [str(path) for path in (ROOT / "gateway.yaml.example", bad, deep)]

    command = [sys.executable, "-c", WITHOUT_LIBYAML, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stderr == ""
    assert done.stdout == (
        f"{bad}:3: YAML: control characters are not allowed\n{deep}:1: YAML: nested more than 50 levels deep\n"
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://a",
        "redis://u:p@a:6379/15",
        "rediss://[::1]:1/?ssl_ca_certs=/etc/ca.pem",
        "redis:///0",
        "unix:///run/redis server.sock?db=1",
        "unix://u@/run/redis.sock?password=a@b",
        "redis+sentinel://u:p@a,b:26380,[::1]:1/mymaster?sentinel_username=s&sentinel_password=p",
        "rediss+sentinel://a/my%20master/3?protocol=3",
        "Redis+Cluster://u:p@a:1,b/0?protocol=3",
        "rediss+cluster://a?ssl_ca_certs=/etc/ca.pem",
    ],
)
def test_urls_of_redis_are_taken_as_they_are(url: str) -> None:
    assert parse(f"store: {{url: '{url}'}}").store.url == Secret(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p#w:d/?@h:5432/db",
        "postgresql+psycopg://h/db?host=a&host=b",
        "mysql://u@[::1]/db",
        "mariadb://u:p@[::1]:3306/db",
        "postgresql:///db",
    ],
)
def test_urls_of_databases_are_taken_as_they_are(url: str) -> None:
    assert parse(f"usage: {{url: '{url}'}}").usage.url == Secret(url)
