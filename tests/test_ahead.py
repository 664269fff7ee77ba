"""Making items ahead: order, bounds, errors, and that the thread goes when the block does."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from v2l.system.ahead import ahead


class Source:
    """Yields `items`, and knows how many were made and whether it was closed."""

    def __init__(self, *items: object) -> None:
        self.items, self.made, self.closed = items, 0, threading.Event()

    def __iter__(self) -> Iterator[object]:
        try:
            for item in self.items:
                self.made += 1
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.closed.set()


def until(condition: Callable[[], bool]) -> None:
    """Waits for it; then some more, so that what would go too far does."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.03)


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert "v2l-ahead" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("bound", [1, 3, 1000])
def test_all_items_in_order(bound: int) -> None:
    with ahead(iter(range(500)), bound) as items:
        assert list(items) == list(range(500))
        assert list(items) == []


def test_the_next_ones_are_made_meanwhile_and_no_more_than_the_bound() -> None:
    source = Source(*range(100))
    with ahead(source, 3) as items:
        until(lambda: source.made >= 4)
        assert source.made == 4  # three wait, one is in the making
        assert next(items) == 0
        until(lambda: source.made >= 5)
        assert source.made == 5
    assert source.closed.is_set()


def test_items_may_count_differently() -> None:
    source = Source(5, 4, 1, 50, 2, 3)
    with ahead(source, 10, int) as items:
        until(lambda: source.made >= 4)
        assert source.made == 4  # 5 + 4 + 1 wait; 50 must wait until it is alone
        assert [next(items) for _ in range(3)] == [5, 4, 1]
        until(lambda: source.made >= 5)
        assert source.made == 5
        assert list(items) == [50, 2, 3]


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_an_error_comes_where_its_item_would_have(error: BaseException) -> None:
    found = []
    with pytest.raises(type(error)) as caught, ahead(Source(1, 2, error, 3), 10) as items:
        for item in items:
            found.append(item)
    assert found == [1, 2] and caught.value is error


def test_leaving_early_closes_the_source() -> None:
    source = Source(*range(100))
    with pytest.raises(RuntimeError, match="mine"), ahead(source, 2) as items:
        next(items)
        raise RuntimeError("mine")
    assert source.closed.is_set() and source.made < 100


def test_ctrl_c_ends_the_wait_for_a_slow_item() -> None:
    release = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        release.wait(10)
        yield 2

    main = threading.main_thread().ident
    assert main is not None
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, lambda: (signal.pthread_kill(main, signal.SIGINT), time.sleep(0.05), release.set()))
    try:
        with pytest.raises(KeyboardInterrupt), ahead(slow(), 2) as items:
            timer.start()
            list(items)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, previous)


def test_one_may_feed_another() -> None:
    with ahead(range(200), 3) as numbers, ahead((n * 2 for n in numbers), 3) as doubled:
        assert list(doubled) == list(range(0, 400, 2))
    with ahead(range(200), 3) as numbers, ahead((n * 2 for n in numbers), 3) as doubled:
        assert next(doubled) == 0


def test_nothing_taken_is_kept() -> None:
    class Item:
        pass

    def source() -> Iterator[Item]:
        for _ in range(3):
            yield Item()

    with ahead(source(), 1) as items:
        first = weakref.ref(next(items))
        next(items)
        gc.collect()
        assert first() is None
