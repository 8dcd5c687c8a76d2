"""config/Dockerfile as its instructions, in order, so that tests may follow them where no engine builds images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "config" / "Dockerfile"


class Instruction(NamedTuple):
    name: str
    rest: str


def instructions(file: Path) -> list[list[Instruction]]:
    """Each stage's, from its FROM on; what stands before the first is left out."""
    text = re.sub(r"^#.*\n", "", file.read_text(), flags=re.M).replace("\\\n", " ")
    stages: list[list[Instruction]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(Instruction(name, rest.strip()))
    return stages


def user_of_the_image(file: Path) -> int:
    """The number under which its program runs."""
    (rest,) = [each.rest for each in instructions(file)[-1] if each.name == "USER"]
    user, group = rest.split(":")
    assert user == group
    return int(user)
