"""The contract of a queue of alerts, for each kind of it."""

from __future__ import annotations

import time

from gateway.alerts import AlertQueue
from gateway.alerts.event import Event, event
from gateway.alerts.queue import EPISODE_SECONDS, Episode

NOW = time.time()


def made(name: str = "a") -> Event:
    return event("salt", name, "test", NOW, {"name": name})


async def test_an_event_is_queued_once_for_each_receiver(queue: AlertQueue) -> None:
    assert await queue.add(made(), ["one", "two"], NOW)
    assert not await queue.add(made(), ["one", "two"], NOW)
    assert await queue.waiting(["one", "two"]) == 2
    (due,) = await queue.claim("one", NOW, 10)
    assert (due.name, due.id, due.body, due.tries) == ("a", made().id, made().body, 1)
    assert await queue.claim("one", NOW, 10) == []
    await queue.done("one", "a")
    assert await queue.waiting(["one", "two"]) == 1
    assert not await queue.add(made(), ["one"], NOW), "what is delivered is remembered"


async def test_what_is_to_be_tried_again_waits_for_its_time_or_a_restart(queue: AlertQueue) -> None:
    await queue.add(made("a"), ["one"], NOW)
    await queue.add(made("b"), ["one"], NOW)
    under_way, failed = await queue.claim("one", NOW, 10)
    await queue.retry("one", failed.name, NOW, 3_600)
    assert await queue.claim("one", NOW, 10) == []
    await queue.hurry(["one"], NOW)
    again = await queue.claim("one", NOW, 10)
    assert [(each.name, each.tries) for each in again if each.name == failed.name] == [(failed.name, 2)]
    assert under_way.tries == 1


async def test_an_episode_begins_and_ends_once_and_at_most_once_an_hour(queue: AlertQueue) -> None:
    first = Episode("cooldown:1:a", NOW, NOW + 5, "w1")
    assert await queue.begin(first, made("a"), ["one"])
    assert not await queue.begin(first._replace(began=NOW + 1, until=NOW + 9, worker="w2"), made("b"), ["one"])
    (running,) = await queue.episodes()
    assert (running.name, round(running.began), round(running.until)) == (first.name, round(NOW), round(NOW + 9))
    assert await queue.end(first.name, running.began, made("c"), ["one"], NOW + 10)
    assert not await queue.end(first.name, running.began, made("d"), ["one"], NOW + 10)
    assert await queue.episodes() == []
    later = first._replace(began=NOW + EPISODE_SECONDS - 1)
    assert not await queue.begin(later, made("e"), ["one"])
    assert await queue.begin(later._replace(began=NOW + EPISODE_SECONDS + 1), made("f"), ["one"])
    assert await queue.waiting(["one"]) == 3


async def test_a_receiver_that_wants_no_more_gets_no_more_until_it_is_taken_up_again(queue: AlertQueue) -> None:
    await queue.add(made("a"), ["one", "two"], NOW)
    await queue.stop("one", "entry")
    await queue.add(made("b"), ["one", "two"], NOW)
    assert await queue.stopped(["one", "two"]) == {"one": "entry"}
    assert (await queue.waiting(["one"]), await queue.waiting(["two"])) == (0, 2)
    await queue.resume("one")
    await queue.add(made("c"), ["one"], NOW)
    assert [each.name for each in await queue.claim("one", time.time(), 10)] == ["c"]
