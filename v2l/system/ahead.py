"""Iterables run in a thread of their own, which makes the next items while one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterable[T], bound: int, weigh: Callable[[T], int] = lambda item: 1) -> Iterator[Iterator[T]]:
    """Yields the same items in the same order, made by a thread of their own while the block works on the ones before.

    At most `bound` wait to be taken, each counting as much as `weigh` says (bytes, for example; one that alone counts
    more than `bound` waits alone); one more may be in the making. What `items` raises is raised where its item would
    have come. When the block ends, however it ends, the thread stops after the item it is making, `items` is closed
    where it is a generator, and the thread is gone.

        with ahead(frames(), 64 << 20, lambda frame: frame.nbytes) as frames: ...
    """
    queue = _Queue(items, bound, weigh)
    queue.thread.start()
    try:
        yield queue.take()
    finally:
        queue.stop()


class _Queue(Generic[T]):
    """Items that wait between the thread that makes them and the one that takes them."""

    def __init__(self, items: Iterable[T], bound: int, weigh: Callable[[T], int]) -> None:
        self.items, self.bound, self.weigh = items, bound, weigh
        self.waiting: deque[tuple[T, int]] = deque()
        self.weight = 0
        self.ended, self.stopped = False, False
        self.error: BaseException | None = None
        self.changed = Condition()
        # A second Ctrl-C breaks the wait for it in `stop`; the process must still be able to end then.
        self.thread = Thread(target=self._make, name="v2l-ahead", daemon=True)

    def _make(self) -> None:
        error = None
        try:
            iterator = iter(self.items)
            try:
                while not self.stopped:
                    self._put(next(iterator))
            except StopIteration:
                pass
            finally:
                if hasattr(iterator, "close"):
                    iterator.close()
        except BaseException as raised:
            error = raised
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def _put(self, item: T) -> None:
        weight = self.weigh(item)
        with self.changed:
            while self.waiting and self.weight + weight > self.bound and not self.stopped:
                self.changed.wait()
            self.waiting.append((item, weight))
            self.weight += weight
            self.changed.notify_all()

    def take(self) -> Iterator[T]:
        while True:
            with self.changed:
                while not self.waiting and not self.ended:
                    self.changed.wait(1)  # not for ever: on Windows nothing else lets Ctrl-C through
                if not self.waiting:
                    break
                item, weight = self.waiting.popleft()
                self.weight -= weight
                self.changed.notify_all()
            yield item
            del item  # nothing here holds it while the next is awaited
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.waiting.clear()
            self.changed.notify_all()
        while self.thread.is_alive():
            self.thread.join(1)  # see `take`
