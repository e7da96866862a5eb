"""Memory for bodies: a total, a share per site, and nothing lost."""

import asyncio

import pytest

from server.hub import body_budget
from server.hub.body_budget import SMALL_BYTES, BodyBudget

MB = 1 << 20


def test_no_more_than_the_total_and_the_share_is_held_and_everybody_is_served():
    most: list[int] = []

    async def use(budget: BodyBudget, site: str, size: int) -> int:
        async with budget.hold(site, size):
            most.append(budget.held.total())
            assert budget.held[site] <= 3 * MB
            await asyncio.sleep(0)
        return size

    async def run() -> tuple[list[int], BodyBudget]:
        budget = BodyBudget(5 * MB, 3 * MB)
        calls = [use(budget, site, size * MB) for site in "abc" for size in (1, 2, 3, 1, 3, 2)]
        return await asyncio.gather(*calls), budget

    served, budget = asyncio.run(run())
    assert sum(served) == 3 * 12 * MB
    assert 3 * MB < max(most) <= 5 * MB
    assert not budget.held


def test_a_site_waits_for_its_own_share_and_not_for_anothers(monkeypatch):
    monkeypatch.setattr(body_budget, "WAIT_SECONDS", 0.01)

    async def run() -> None:
        budget = BodyBudget(10 * MB, 3 * MB)
        async with budget.hold("greedy", 3 * MB):
            with pytest.raises(TimeoutError):
                async with budget.hold("greedy", MB):
                    pass
            async with budget.hold("other", 3 * MB), budget.hold("greedy", SMALL_BYTES):
                assert budget.held == {"greedy": 3 * MB, "other": 3 * MB}
        assert not budget.held

    asyncio.run(run())


def test_an_error_or_a_cancelled_request_gives_the_memory_back():
    async def run() -> None:
        budget = BodyBudget(3 * MB, 3 * MB)
        with pytest.raises(ValueError, match="broken"):
            async with budget.hold("a", 2 * MB):
                raise ValueError("broken")

        async def stay() -> None:
            async with budget.hold("a", 3 * MB):
                await asyncio.Event().wait()

        first, second = asyncio.create_task(stay()), asyncio.create_task(stay())
        await asyncio.sleep(0)
        for task in (second, first):  # the second still waits for the first
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert not budget.held

    asyncio.run(run())
