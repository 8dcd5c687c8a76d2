"""A panel: runs the Redis commands that come in as lines of JSON, prints their replies, and knows nothing else."""

from __future__ import annotations

import json
import sys
from typing import Any

import redis


def shown(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode()
    return [shown(each) for each in reply] if isinstance(reply, list | set) else reply


def main() -> None:
    with redis.Redis.from_url(sys.argv[1]) as client:
        for line in sys.stdin:
            replies = [shown(client.execute_command(*command)) for command in json.loads(line)]
            sys.stdout.write(json.dumps(replies) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
