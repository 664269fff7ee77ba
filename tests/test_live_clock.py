"""The time line of a live source, whatever its own clock does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from v2l.live.clock import Jump, LiveClock

TICK = 1 / 90000
RATE = 10


class Line:
    """The time line of pictures given as (presentation time, arrival) in seconds."""

    def __init__(self, pictures: Iterable[tuple[float | None, float]], **settings: Any) -> None:
        self.clock = LiveClock(tick=TICK, **settings)
        self.times: list[float] = []
        self.jumps: list[Jump] = []
        self.early: list[float] = []
        for shown, arrived in pictures:
            at, jump = self.clock.place(shown, arrived)
            self.jumps += [jump] if jump else []
            if at is not None:
                self.times.append(at)
                self.early.append(self.clock.early(arrived))
        assert all(a < b for a, b in zip(self.times, self.times[1:], strict=False))


def pictures(count: int = 600, late: float = 0.0, after: float = 1e9, shift: float = 0.0
             ) -> list[tuple[float | None, float]]:
    """Ten pictures a second; those `after` so many seconds arrive `late`, and their times are `shift` further on."""
    times = [i / RATE for i in range(count)]
    return [(t + shift * (t >= after), 100 + t + late * (t >= after)) for t in times]


@pytest.mark.parametrize(("shift", "words"), [(-30.0, "jumped back 29.9 s"), (30.0, "jumped ahead 30.0 s")])
def test_the_time_of_arrival_stands_in_where_a_clock_jumps(shift: float, words: str) -> None:
    line = Line(pictures(after=20.0, shift=shift), live=True)
    assert line.times == pytest.approx([i / RATE for i in range(600)])
    (jump,) = line.jumps
    assert (jump.start, jump.end) == (pytest.approx(19.9), pytest.approx(20.0)) and words in jump.reason


def test_after_an_outage_the_time_line_goes_on_by_arrivals() -> None:
    line = Line(pictures(late=60.0, after=20.0, shift=-20.0), live=True)
    assert [(jump.start, jump.end) for jump in line.jumps] == [(pytest.approx(19.9), pytest.approx(80.0))]
    assert line.times[-1] == pytest.approx(119.9)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("bits", [32, 33])
def test_a_clock_that_begins_anew_after_32_or_33_bits_goes_on(bits: int, live: bool) -> None:
    whole = (1 << bits) * TICK
    line = Line([((whole - 20 + i / RATE) % whole, 100 + i / RATE) for i in range(600)], live=live)
    assert line.times == pytest.approx([i / RATE for i in range(600)]) and not line.jumps


def test_without_times_pictures_are_where_they_arrive() -> None:
    line = Line([(None, arrived) for _, arrived in pictures()], live=True)
    assert line.times == pytest.approx([i / RATE for i in range(600)]) and not line.jumps
    line = Line([(None, 100.0) for _ in range(50)], live=False, step=0.04)
    assert line.times == pytest.approx([i * 0.04 for i in range(50)])


def test_a_picture_out_of_order_is_left_out() -> None:
    line = Line([(0.0, 0.0), (0.1, 0.1), (0.05, 0.1), (0.1, 0.2), (0.2, 0.2)], live=True)
    assert line.times == [0.0, 0.1, 0.2] and not line.jumps


@pytest.mark.parametrize("speed", [0.99, 1.01])
def test_a_clock_that_is_slow_or_fast_is_kept_to_this_machines(speed: float) -> None:
    line = Line([(i / RATE * speed, i / RATE) for i in range(6000)], live=True)
    assert max(map(abs, line.early)) < 0.5 and not line.jumps


def test_what_comes_late_and_then_all_at_once_keeps_its_times() -> None:
    line = Line([(t, 104.0 if 100 < arrived < 104 else arrived) for t, arrived in pictures()], live=True)
    assert line.times == pytest.approx([i / RATE for i in range(600)]) and not line.jumps


def test_a_burst_at_the_beginning_is_evened_out() -> None:
    line = Line([(t, max(104.0, arrived)) for t, arrived in pictures()], live=True)
    assert line.early[-1] < 0.5 and not line.jumps


def test_where_all_comes_late_from_then_on_the_time_line_leaps_and_tells() -> None:
    line = Line(pictures(late=5.0, after=20.0), live=True)
    assert abs(line.early[-1]) < 0.5
    (jump,) = line.jumps
    assert jump.end - jump.start == pytest.approx(5.1) and "later than their times say" in jump.reason


def test_segments_that_come_faster_than_they_last_keep_their_times() -> None:
    clock, now, times = LiveClock(live=True, in_parts=True, tick=TICK), 0.0, []
    for i in range(1200):
        now = max(now, i // 60 * 6.0 - 12)  # six seconds at a time, the third of them when reading begins
        times.append(clock.place(i / RATE, now)[0])
        now += max(0.0, clock.early(now))  # as the reader waits
    assert times == pytest.approx([i / RATE for i in range(1200)])


def test_a_files_own_times_count_however_fast_they_come() -> None:
    shown = [0.0, 0.1, 0.2, 300.0, 300.1]
    assert Line([(t, 0.0) for t in shown], live=False).times == pytest.approx(shown)
    jumped = Line([(t, 0.0) for t in shown], live=False, broadcast=True)  # whose clocks jump
    assert jumped.times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4]) and len(jumped.jumps) == 1


def test_another_connection_goes_on_with_the_time_line() -> None:
    line = Line(pictures(10), live=True, origin=60.0, last=35.0)
    assert line.times == pytest.approx([40 + i / RATE for i in range(10)])


def test_pictures_without_times_that_come_slowly_are_shown_as_they_come() -> None:
    clock = LiveClock(live=False, step=0.04, slower=True)
    assert [clock.place(None, 100 + at)[0] for at in (0, 0.001, 0.002, 1.0, 1.3, 1.3)] == pytest.approx(
        [0, 0.04, 0.08, 1.0, 1.3, 1.34])


def test_where_a_segment_of_another_make_begins_nothing_is_missing() -> None:
    given = [(i / RATE + 30 * (i < 50), 100 + i / RATE) for i in range(100)]
    assert not Line(given, live=True, in_parts=True).jumps and Line(given, live=True).jumps
    missing = [(shown, arrived + 3 * (i >= 50)) for i, (shown, arrived) in enumerate(given)]
    assert [round(jump.end - jump.start) for jump in Line(missing, live=True, in_parts=True).jumps] == [3]


def test_a_clock_that_goes_back_below_nothing_is_told_as_that() -> None:
    given = [((5 + i / RATE - 100 * (i >= 50)) % (2**32 * TICK), 100 + i / RATE) for i in range(60)]
    assert [jump.reason for jump in Line(given, live=True).jumps] == ["the clock of the source jumped back 99.9 s"]
