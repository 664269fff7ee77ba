"""Numbers, sizes and times in words: short, and never in a unit that they have outgrown as they are written."""

from __future__ import annotations

from v2l.wording import clock_text, duration_text, file_time_text, number_text, ratio_text, size_text, time_text


def test_numbers_read_well() -> None:
    assert [number_text(n) for n in (0.53, 7.34, 33.2, 713.0, 1507.0, 26114.0)] == [
        "0.53", "7.3", "33", "713", "1,507", "26.1k"]
    assert [number_text(n) for n in (0, 0.053, 3.5, 37, 1024, 20e3, 2e7, -26114)] == [
        "0", "0.053", "3.5", "37", "1,024", "20k", "20M", "-26.1k"]
    assert [ratio_text(n) for n in (None, 17.2, 26114)] == ["", "17×", "26.1k×"]
    assert [duration_text(s) for s in (0.0021, 0.53, 9.96, 75, 300, 5400, 7200, 90000)] == [
        "2.1 ms", "0.53 s", "10 s", "75 s", "5 min", "90 min", "2 h", "25 h"]


def test_what_rounds_to_the_next_unit_stands_in_it() -> None:
    assert [duration_text(s) for s in (0.0994, 0.0999, 9.94, 119.4, 119.9, 7140, 7199, 3.6e6)] == [
        "99 ms", "0.1 s", "9.9 s", "119 s", "2 min", "119 min", "2 h", "1,000 h"]
    assert [size_text(n) for n in (999.4, 999.7, 999_400, 999_700, 999.7e6, 999.7e9, 1.5e12, 5e15)] == [
        "999 bytes", "1 kB", "999 kB", "1 MB", "1 GB", "1 TB", "1.5 TB", "5,000 TB"]
    assert [number_text(n) for n in (99.4, 99.6, 9999, 9999.7, 999_400, 999_700, 999.7e6, 5e12, 0.0009996)] == [
        "99", "100", "9,999", "10k", "999k", "1M", "1G", "5,000G", "0.001"]
    assert [time_text(s) for s in (-0.0001, -5, 59.9996, 3599.9999)] == ["0:00", "-0:05", "1:00", "1:00:00"]
    assert [clock_text(s) for s in (59.6, 3599.6)] == ["1:00", "1h00"]
    assert [file_time_text(s) for s in (5.25, 59.9999, 3723)] == ["00h00m05.250s", "00h01m00s", "01h02m03s"]
