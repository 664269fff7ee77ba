"""Values that are kept in memory up to so many bytes: adapters that were asked, pictures that were looked at."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Shelf(Generic[_T]):
    """Values by keys, made when first needed and held while their sizes sum up to no more than `most` bytes; the one
    that was not needed for longest goes first. For any number of threads: a value is made once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        """Bytes of what is held."""
        self._held: OrderedDict[Hashable, tuple[_T, int]] = OrderedDict()
        self._making: dict[Hashable, Lock] = {}
        self._lock = Lock()

    def __contains__(self, key: Hashable) -> bool:
        with self._lock:
            return key in self._held

    def get(self, key: Hashable, make: Callable[[], tuple[_T, int]]) -> _T:
        """The value of a key; where there is none, what `make` gives, with its size in bytes. Raises what `make` does,
        and then holds nothing. A value larger than all the room is handed out and not held."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]
            making = self._making.setdefault(key, Lock())
        with making:
            with self._lock:
                if key in self._held:
                    return self._held[key][0]
            try:
                value, size = make()
                self.put(key, value, size)
            finally:
                with self._lock:
                    self._making.pop(key, None)
        return value

    def put(self, key: Hashable, value: _T, size: int) -> None:
        """Holds a value that was made beside another."""
        with self._lock:
            if size > self.most:
                return
            self.used -= self._held.pop(key, (None, 0))[1]
            self._held[key] = value, size
            self.used += size
            while self.used > self.most:
                _, (_, freed) = self._held.popitem(last=False)
                self.used -= freed

    def drop(self, outdated: Callable[[Any], bool]) -> None:
        """Lets go of the keys that are `outdated`."""
        with self._lock:
            for key in [key for key in self._held if outdated(key)]:
                self.used -= self._held.pop(key)[1]
