"""`include`: which files are found, how they join, and that whatever is wrong names the right file and line."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Settings, load_settings
from gateway.config.apart import Reading
from gateway.errors import ConfigError

MAIN = """\
include: [keys/*.yaml, people.yaml]
server:
  port: 1
models:
- {id: 1, name: m, endpoints: [{id: a, url: "http://up.test"}]}
"""


def key(key_id: str, number: int) -> str:
    return f"- {{id: {key_id}, user: 42, hash: 'sha256:{number:064x}'}}\n"


def lay(base: Path, **more: str) -> Path:
    """A gateway.yaml that includes `keys/b.yaml`, `keys/a.yaml` and `people.yaml`; `more`: other files' texts."""
    texts = {
        "gateway.yaml": MAIN,
        "keys/b.yaml": "keys:\n" + key("b", 1),
        "keys/a.yaml": "# the first\nkeys:\n" + key("a", 2),
        "people.yaml": "users:\n- {id: 42}\nrouting: {unknown_model: reject}\n",
    }
    for name, text in (texts | more).items():
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    return base / "gateway.yaml"


def loaded(file: Path, **environ: str) -> Settings:
    return load_settings(file, environ)


def problems(file: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_settings(file, environ)
    return [each.replace(f"{file.parent}/", "") for each in raised.value.problems]


def test_lists_join_in_the_order_of_the_files_and_lines_name_theirs(tmp_path: Path) -> None:
    settings = loaded(lay(tmp_path))
    assert [each.id for each in settings.keys] == ["a", "b"]
    assert [each.id for each in settings.users] == [42]
    assert settings.routing.unknown_model == "reject"
    assert settings.server.port == 1
    assert settings.lines.where("key", "a") == f"{tmp_path}/keys/a.yaml:3"
    assert settings.lines.where("model", "1") == f"{tmp_path}/gateway.yaml:5"
    assert settings.lines["key", "a"] == 3
    assert {*settings.files} == {str(tmp_path / name) for name in ("keys", "keys/a.yaml", "keys/b.yaml", "people.yaml")}


def test_a_process_of_its_own_reads_the_same(tmp_path: Path) -> None:
    file = lay(tmp_path)
    apart = Reading(file, dict(os.environ)).run()
    assert (apart.keys, apart.files) == (loaded(file).keys, loaded(file).files)
    assert apart.lines.where("key", "b") == f"{tmp_path}/keys/b.yaml:2"
    assert pickle.dumps(apart)


def test_long_lists_join_too(tmp_path: Path) -> None:
    file = lay(tmp_path, **{"keys/b.yaml": "keys:\n" + "".join(key(f"k{n}", n + 9) for n in range(2_000))})
    settings = loaded(file)
    assert len(settings.keys) == 2_001
    assert settings.lines.where("key", "k1999") == f"{tmp_path}/keys/b.yaml:2001"
    with (tmp_path / "keys" / "b.yaml").open("a") as more:
        more.write(key("a", 1))
    assert problems(file) == ["keys/b.yaml:2002: keys[2000].id: 'a' is already the id of keys[0] (keys/a.yaml:3)"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("people.yaml", "server: {port: 2}\n", "people.yaml:1: server: is given twice (first at gateway.yaml:3);"),
        ("keys/b.yaml", "keys:\n" + key("a", 1), "keys/b.yaml:2: keys[0].id: 'a' is already the id of keys[0] (keys/a"),
        ("keys/b.yaml", "keys:\n" + key("c", 2), "keys/b.yaml:2: keys[0]: the same key as keys[0] (keys/a.yaml:3)"),
        (
            "keys/b.yaml",
            "include: [x.yaml]\n",
            "keys/b.yaml:1: include: only the file that the gateway is started with",
        ),
        ("keys/b.yaml", "kezs: []\n", "keys/b.yaml:1: kezs: unknown key (did you mean 'keys'?)"),
        ("keys/b.yaml", "keys: [\n", "keys/b.yaml:2: YAML: "),
        ("keys/b.yaml", "# nothing\n", "keys/b.yaml:1: (top level): the file has no section"),
        ("keys/b.yaml", "users:\n- {id: 7, tier: none}\n", "keys/b.yaml:2: users[0].tier: no such tier: 'none'"),
        ("people.yaml", "studio:\n  tier: none\n", "people.yaml:2: studio.tier: no such tier: 'none'"),
        (
            "people.yaml",
            "models:\n- {id: 2, name: m, endpoints: [{id: a, url: 'http://up.test'}]}\n",
            "people.yaml:2: models[0].name: 'm' is taken by models[0].name (gateway.yaml:5) already",
        ),
    ],
)
def test_what_is_wrong_names_its_own_file_and_the_other(tmp_path: Path, name: str, text: str, expected: str) -> None:
    found = problems(lay(tmp_path, **{name: text}))
    assert len(found) == 1, found
    assert found[0].startswith(expected), found


def test_nothing_above_the_folder_is_read(tmp_path: Path) -> None:
    """Neither by name nor by a symbolic link; links that stay below are followed."""
    outside = tmp_path / "outside.yaml"
    outside.write_text("keys:\n" + key("x", 9))
    base = tmp_path / "gw"
    base.mkdir()
    for pattern in ("../outside.yaml", "../*.yaml", str(outside)):
        (found,) = problems(lay(base, **{"gateway.yaml": f"include: ['{pattern}']\n"}))
        assert "is not below the folder of this file" in found
    file = lay(base)
    (base / "keys" / "link.yaml").symlink_to(outside)
    assert "gateway.yaml:1: include[0]: " in problems(file)[0]
    (base / "keys" / "link.yaml").unlink()
    (base / "keys" / "..data").mkdir()
    (base / "keys" / "b.yaml").rename(base / "keys" / "..data" / "b")
    (base / "keys" / "b.yaml").symlink_to("..data/b")
    assert [each.id for each in loaded(file).keys] == ["a", "b"]


def test_patterns_may_match_nothing_and_names_must_be_there(tmp_path: Path) -> None:
    """gateway.yaml is none of its own, and no file comes twice."""

    def main(include: Any) -> Path:
        return lay(tmp_path, **{"gateway.yaml": f"include: {include}\nserver: {{port: 1}}\n"})

    assert loaded(main(["none/*.yaml", "*.toml"])).keys == ()
    assert [each.id for each in loaded(main(["*.yaml", "keys/b.yaml", "k*/[ab].yaml"])).keys] == ["b", "a"]
    assert problems(main(["none.yaml"])) == ["gateway.yaml:1: include[0]: there is no such file"]
    assert "`**` has no meaning here" in problems(main(["**/*.yaml"]))[0]
    os.mkfifo(tmp_path / "pipe.yaml")
    assert problems(main(["pipe.yaml"])) == ["pipe.yaml:1: cannot be read: not a regular file"]


def test_the_environment_reaches_sections_of_every_file(tmp_path: Path) -> None:
    file = lay(tmp_path)
    settings = loaded(file, GATEWAY__ROUTING__UNKNOWN_MODEL="assigned", GATEWAY__CHAT__MAX_TOKENS="9")
    assert (settings.routing.unknown_model, settings.chat.max_tokens) == ("assigned", 9)
    assert settings.overridden[0].endswith(f"(over {tmp_path}/people.yaml:3)")
