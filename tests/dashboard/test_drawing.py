"""A long answer is drawn without a freeze, whatever else the browser keeps."""

from __future__ import annotations

import pytest
from gallery_kit import at_the_gallery
from tasks_kit import longest_task

from bench.drawing import KINDS, answer_of, in_the_chat

LONGEST_MILLISECONDS = 50
EVENTS, PIECE = 2000, 100
MOST_NODES, MOST_IN_A_PART = 400, 120
# How many nodes each event adds, removes or changes; and the most children that anything has at the end.
TOUCHED = """async pieces => {
  const files = [...document.querySelectorAll("link[rel=modulepreload]")].map(each => each.href);
  const load = name => import(files.find(each => each.endsWith(`/answers/${name}.js`)));
  const [{Blocks}, {Nodes}] = await Promise.all(["blocks", "nodes"].map(load));
  const root = document.body.appendChild(document.createElement("div"));
  const nodes = new Nodes(root);
  const blocks = new Blocks(nodes);
  const watching = new MutationObserver(() => {});
  watching.observe(root, {childList: true, subtree: true, characterData: true, attributes: true});
  const touched = pieces.map(piece => {
    blocks.feed(piece);
    nodes.flush();
    const records = watching.takeRecords();
    return new Set(records.flatMap(each => [each.target, ...each.removedNodes, ...each.addedNodes])).size;
  });
  const lists = [...root.querySelectorAll("ul, ol, tbody")];
  return {touched, list: Math.max(0, ...lists.map(each => each.childElementCount))};
}"""


async def test_two_hundred_kilobytes_freeze_nothing() -> None:
    """They come at once, among thirty long conversations; the main thread is never busy for three frames."""
    async with at_the_gallery() as (gallery, browser), in_the_chat(gallery, browser, kilobytes=200, kept=30) as page:
        async with longest_task(browser, page) as longest:
            await page.get_by_label("Message", exact=True).press("Enter")
            await page.get_by_text("412 tokens").wait_for(timeout=120_000)
            # The receipt is there while the last words are still drawn, some a frame. What is not shown was marks.
            await page.wait_for_function("() => document.querySelector('.answer .words').textContent.length > 120_000")
        assert longest.cpu < LONGEST_MILLISECONDS, longest


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_touches_no_more_of_a_long_answer(kind: str) -> None:
    """Of 2,000 events the last hundreds change as few nodes as the first, and no list or table is long to lay out."""
    text = answer_of(EVENTS * PIECE, kind)
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    async with at_the_gallery() as (gallery, browser), in_the_chat(gallery, browser, kilobytes=1, kept=0) as page:
        seen = await page.evaluate(TOUCHED, pieces)
    touched = seen["touched"]
    assert len(touched) == EVENTS
    assert max(touched) <= MOST_NODES
    early, late = touched[: EVENTS // 4], touched[-EVENTS // 4 :]
    assert sum(late) <= 1.5 * sum(early)
    assert seen["list"] <= MOST_IN_A_PART


STARTS = """async text => {
  const files = [...document.querySelectorAll("link[rel=modulepreload]")].map(each => each.href);
  const {write} = await import(files.find(each => each.endsWith("/answers/writing.js")));
  const root = document.body.appendChild(document.createElement("div"));
  await write(root, text).ended;
  return [...root.children].map(each => [each.tagName, each.start ?? null, each.childElementCount]);
}"""


async def test_a_long_list_goes_on_counting() -> None:
    """It is several lists, each of which begins where the one before ended."""
    numbered = "\n".join(f"{each}. step" for each in range(3, 123))
    dots = "\n".join("- point" for _ in range(60))
    async with at_the_gallery() as (gallery, browser), in_the_chat(gallery, browser, kilobytes=1, kept=0) as page:
        assert await page.evaluate(STARTS, numbered) == [["OL", 3, 50], ["OL", 53, 50], ["OL", 103, 20]]
        assert await page.evaluate(STARTS, dots) == [["UL", None, 50], ["UL", None, 10]]
