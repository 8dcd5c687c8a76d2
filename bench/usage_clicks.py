"""How soon usage is seen over millions of rows: `python -m bench.usage_clicks [--rows 10_000_000] [--rounds 5]`.

A ledger whose sums are those of so many rows (made up as by `bench.reports --sums`: a year, 10,000 users, 50 models), a
gateway of its own, headless Chromium. Told for what is clicked: the time from the click until everything is drawn
(bars, tables, limits, requests; by the clock, median and least, which a busy machine disturbs), and the CPU time that
it took: of the page's main thread, and of the gateway's process. A click on a page's name is counted from the
navigation's start, as the browser tells it; any other from the event.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / each) for each in ("", "dashboard")]

from browser_kit import browsing, visiting  # noqa: E402
from kit import Stage  # noqa: E402
from playwright.async_api import CDPSession, Page  # noqa: E402
from usage_kit import ALL_KEYS, OWNER, models  # noqa: E402

from bench.reports import make_up  # noqa: E402
from gateway.types import Secret  # noqa: E402

# Every part is there, and nothing is on its way; told from the last click, or from the navigation.
DRAWN = """async () => {
  const whole = () => document.querySelector(".bars svg") && !document.querySelector("[aria-busy]");
  while (!whole()) await new Promise(requestAnimationFrame);
  await new Promise(requestAnimationFrame);
  return performance.now() - (window.clicked ?? 0);
}"""
CLICKS = "addEventListener('click', event => { window.clicked = performance.now(); }, true)"


class Taken(NamedTuple):
    clock: float
    page: float
    gateway: float


class Desk:
    def __init__(self, stage: Stage, page: Page, session: CDPSession) -> None:
        self.stage, self.page, self._session = stage, page, session

    async def click(self, role: str, name: str) -> Taken:
        before = await self._spent()
        await self.page.get_by_role(role, name=name, exact=True).first.click()  # type: ignore[arg-type]
        if role == "link":
            await self.page.wait_for_url(f"**/dashboard/{name.lower()}*", wait_until="commit")
        clock = float(await self.page.evaluate(DRAWN))
        after = await self._spent()
        # A page of another address may be in another process, whose time begins anew.
        page = after[0] - before[0] if after[0] > before[0] else after[0]
        return Taken(clock, page, after[1] - before[1])

    async def _spent(self) -> tuple[float, float]:
        told = await self._session.send("Performance.getMetrics")
        metrics = {each["name"]: each["value"] for each in told["metrics"]}
        return metrics["TaskDuration"] * 1000, ran_for(self.stage.gateway.process.pid)


def ran_for(pid: int) -> float:
    """Return for how many milliseconds a process's threads have run on a core."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


async def measure(directory: Path, rounds: int) -> None:
    sections = {"usage": {"currency": "USD"}, "organisations": [{"id": 10}]}
    async with (
        Stage.open(directory, models, keys=ALL_KEYS, **sections) as stage,
        browsing() as browser,
        visiting(browser, stage, OWNER, viewport={"width": 1280, "height": 900}) as page,
    ):
        await page.add_init_script(CLICKS)
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        desk = Desk(stage, page, session)
        for name, clicks in (("Usage", ("90 d", "endpoint")), ("SOC", ("90 d", "endpoint", "organisation"))):
            taken: dict[str, list[Taken]] = {}
            for _ in range(rounds):
                await page.goto(f"{stage.url}/dashboard/keys", wait_until="networkidle")
                taken.setdefault(f"the page {name}", []).append(await desk.click("link", name))
                for each in clicks:
                    taken.setdefault(f"  then {each}", []).append(await desk.click("button", each))
            for clicked, every in taken.items():
                print(f"{clicked:20} {told(every)}", flush=True)


def told(every: list[Taken]) -> str:
    clock, page, gateway = (statistics.median(each) for each in zip(*every, strict=True))
    least = min(each.clock for each in every)
    return f"drawn after {clock:6.0f} ms (at least {least:4.0f}); CPU: page {page:5.0f} ms, gateway {gateway:5.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--filled", type=Path, help="a folder whose data/usage.db was filled so before")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        directory = given.filled or Path(made)
        if given.filled is None:
            (directory / "data").mkdir()
            make_up(Secret(f"sqlite:///{directory / 'data' / 'usage.db'}"), given.rows)
        asyncio.run(measure(directory, given.rounds))


if __name__ == "__main__":
    main()
