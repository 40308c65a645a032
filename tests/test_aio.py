"""The worker pool: order, limits, failure and closing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import pytest

from pipeline.aio import Deadline, amap, each, from_thread
from tests.support.virtual import run


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_no_more_than_limit_run_at_once_and_all_results_come() -> None:
    """With a limit of 4, 4 run at a time, and each input gives one result."""
    running, most = 0, 0

    async def act(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(1)
        running -= 1
        return number * 2

    async def main() -> list[int]:
        return [result async for result in amap(act, numbers(20), limit=4)]

    assert sorted(run(main())) == [number * 2 for number in range(20)]
    assert most == 4


def test_workers_who_wait_for_the_source_are_all_served_and_all_go_home() -> None:
    """More workers than inputs, at a source that takes its time: none is left waiting."""
    done: list[int] = []

    async def slow() -> AsyncGenerator[int, None]:
        for number in range(5):
            await asyncio.sleep(1)
            yield number

    async def act(number: int) -> None:
        await asyncio.sleep(0.5)
        done.append(number)

    async def main() -> None:
        async with asyncio.timeout(100):
            await each(act, slow(), limit=10)

    run(main())
    assert done == [0, 1, 2, 3, 4]


def test_one_who_waited_for_the_source_does_not_make_all_others_wait() -> None:
    """What is there is taken at once, also while somebody is about to be woken."""
    turns: list[int] = []

    async def numbers_after_a_while() -> AsyncGenerator[int, None]:
        await asyncio.sleep(0)
        for number in range(50):
            yield number

    async def act(number: int) -> None:
        turns.append(number)

    async def main() -> int:
        steps = 0

        async def count() -> None:
            nonlocal steps
            while True:
                steps += len(turns) > 0
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await each(act, numbers_after_a_while(), limit=8)
        counting.cancel()
        return steps

    steps = asyncio.run(main())
    assert turns == list(range(50))
    assert steps < 20  # a turn of the loop for each worker, not for each number


def test_a_result_that_is_ready_waits_for_no_more_than_the_other_workers() -> None:
    """Taken in bursts, results stay nearly in order: none is overtaken again and again."""

    async def act(number: int) -> int:
        return number

    async def main() -> list[int]:
        found = []
        async for result in amap(act, numbers(2_000), limit=8):
            found.append(result)
            if result % 3 == 0:
                await asyncio.sleep(0)
        return found

    found = asyncio.run(main())
    assert sorted(found) == list(range(2_000))
    assert max(abs(result - place) for place, result in enumerate(found)) < 2 * 8


def test_results_come_as_they_are_ready() -> None:
    """A slow first input does not hold back the others."""

    async def act(number: int) -> int:
        await asyncio.sleep(100 if number == 0 else 1)
        return number

    async def main() -> list[int]:
        return [result async for result in amap(act, numbers(4), limit=2)]

    assert run(main()) == [1, 2, 3, 0]


def test_a_failing_worker_raises_its_own_exception_and_stops_the_others() -> None:
    """The consumer sees the worker's exception, not a group, and nobody is left running."""
    cancelled = []

    async def act(number: int) -> int:
        if number == 2:
            raise LookupError("two")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def main() -> None:
        async for _ in amap(act, numbers(5), limit=3):
            pass

    with pytest.raises(LookupError, match="two"):
        run(main())
    assert sorted(cancelled) == [0, 1]


def test_a_failing_source_raises_its_own_exception() -> None:
    """An exception of the source reaches the consumer after the results before it."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("source")

    async def act(number: int) -> int:
        return number

    seen = []

    async def main() -> None:
        async for result in amap(act, broken(), limit=2):
            seen.append(result)

    with pytest.raises(LookupError, match="source"):
        run(main())
    assert seen == [1]


def test_closing_early_cancels_the_workers() -> None:
    """A consumer that breaks off leaves no worker behind, also with a full result queue."""
    cancelled = []

    async def act(number: int) -> int:
        if number < 3:
            return number
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    async def main() -> int:
        async with aclosing(amap(act, numbers(10), limit=3)) as results:
            async for _ in results:
                break
        return len(asyncio.all_tasks())

    assert run(main()) == 1
    assert set(cancelled) <= {3, 4, 5}


def test_the_reader_thread_hands_over_lists_and_its_exception() -> None:
    """Items come in order; an exception in the thread is raised as itself."""

    def batches() -> Iterator[list[int]]:
        yield [1, 2]
        yield [3]
        raise LookupError("cut")

    seen = []

    async def main() -> None:
        async for some in from_thread(batches):
            seen.extend(some)

    with pytest.raises(LookupError, match="cut"):
        run(main())
    assert seen == [1, 2, 3]


def test_closing_the_reader_closes_the_iterator_in_its_thread() -> None:
    """A file that the iterator holds open is closed when the consumer leaves early."""
    closed = []

    def batches() -> Iterator[list[int]]:
        try:
            while True:
                yield [1]
        finally:
            closed.append(True)

    async def main() -> None:
        async with aclosing(from_thread(batches)) as rows:
            async for _ in rows:
                break

    run(main())
    assert closed == [True]


def test_closing_closes_the_source_too() -> None:
    """Nothing goes on in the background: the source's own clean-up has run."""
    closed = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            for number in range(100):
                yield number
        finally:
            closed.append(True)

    async def act(number: int) -> int:
        await asyncio.sleep(1)
        return number

    async def main() -> None:
        inner = amap(act, source(), limit=4)
        async with aclosing(amap(act, inner, limit=2)) as results:
            async for _ in results:
                break
        assert closed == [True]
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_one_who_is_cancelled_while_closing_leaves_nobody_at_the_source() -> None:
    """As a run that drains does: it has stopped by itself, and is ended before all is closed."""
    closed = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            closed.append(True)

    async def act(number: int) -> int:
        return number

    async def main() -> None:
        numbers = source()

        async def work() -> None:
            async with aclosing(amap(act, amap(act, numbers, limit=2), limit=2)) as results:
                await anext(results)

        working = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        assert working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert closed == [True]
        assert len(asyncio.all_tasks()) == 1
        await numbers.aclose()

    run(main())


def test_each_does_all_and_closes_what_it_reads() -> None:
    """No results are kept; a failing one is raised as itself and the source is closed."""
    done: list[int] = []
    closed = []

    async def source() -> AsyncGenerator[int, None]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append(True)

    async def act(number: int) -> None:
        await asyncio.sleep(1)
        if len(done) == 10:
            raise LookupError(str(number))
        done.append(number)

    async def main() -> None:
        await each(act, source(), limit=3)
        assert sorted(done) == list(range(10))
        with pytest.raises(LookupError):
            await each(act, source(), limit=3)
        assert closed == [True, True]
        assert len(asyncio.all_tasks()) == 1

    run(main())


def test_a_deadline_ends_each_work_in_its_own_time() -> None:
    """Three of different beginnings: the slow ones are late after 10 s each, with one timer."""
    ended: dict[str, float] = {}

    async def work(name: str, begins: float, takes: float, deadline: Deadline) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(begins)
        try:
            result = await deadline.within(asyncio.sleep(takes, name))
            assert result == name
        except TimeoutError:
            ended[name] = loop.time()
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            # What comes after is not cancelled any more.
            assert await deadline.within(asyncio.sleep(9, "again")) == "again"

    async def main() -> None:
        deadline = Deadline(10)
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for name, begins, takes in (("a", 0, 99), ("b", 3, 9), ("c", 4, 99), ("d", 4, 99)):
                group.create_task(work(name, begins, takes, deadline))
        times = {name: pytest.approx(at - begun, abs=0.1) for name, at in ended.items()}
        assert times == {"a": 10, "c": 14, "d": 14}
        assert not deadline._ends

    run(main())


def test_a_deadline_does_not_hide_that_the_task_itself_was_cancelled() -> None:
    """Cancelled before its time, or in the same instant: CancelledError; another error stays."""

    async def main() -> None:
        deadline = Deadline(10)
        for seconds in (5, 10):
            task = asyncio.create_task(deadline.within(asyncio.sleep(99)))
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), seconds

        async def stubborn() -> None:
            try:
                await asyncio.sleep(99)
            except asyncio.CancelledError:
                raise LookupError from None

        async def unmoved() -> str:
            try:
                await asyncio.sleep(99)
            except asyncio.CancelledError:
                return "whole"
            return "never"

        with pytest.raises(LookupError):
            await deadline.within(stubborn())
        assert await deadline.within(unmoved()) == "whole"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(main())


def test_ready_tasks_go_in_an_order_that_a_seed_decides() -> None:
    """The same seed, the same order; without one, first come, first served."""

    async def turns() -> list[int]:
        order: list[int] = []

        async def one(number: int) -> None:
            for _ in range(3):
                await asyncio.sleep(0)
                order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(one(number))
        return order

    assert run(turns()) == [0, 1, 2, 3, 4] * 3
    assert run(turns(), seed=1) == run(turns(), seed=1)
    assert len({tuple(run(turns(), seed=seed)) for seed in range(5)}) > 1
