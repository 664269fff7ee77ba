"""The timeline of `v2l info`: every segment where it lies, in any width, and short however many there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.adapters import make, source
from support.cli import run

from v2l.adapter import Adapter, save
from v2l.adapter.compress import compress
from v2l.adapter.join import join
from v2l.cli.describe import adapter_text
from v2l.cli.timeline import draw_timeline


def drawn(spans: list[tuple[float, float]], duration: float, width: int) -> list[str]:
    return draw_timeline([(i, *span) for i, span in enumerate(spans, 1)], duration, width)


@pytest.mark.parametrize(("spans", "duration", "rows"), [
    ([(0, 20), (20, 40), (60, 80), (70, 90)], 100, ["[1=====][2=====]........[3=====]........",
                                                    "............................[4=====]....",
                                                    "0:00              0:50              1:40"]),
    ([(0, 1), (1, 50), (50, 100)], 100, ["|[2========][3==========]",
                                         "0:00      0:50       1:40"]),
    ([(i, i + 1) for i in range(50)] + [(70, 71)], 100, ["###########...#.....",
                                                         "0:00            1:40"]),
    ([(5, 5), (7, 7)], 10, ["..........#...#.....", "0:00            0:10"]),
    ([(0, 100)] * 6, 100, ["[1======]", "[2======]", "[3======]", "[4======]", "0:00 1:40"]),
    ([(-2, 5), (5, 12)], 10, ["[1=======][2=======]", "-0:02           0:12"]),
    ([(0, 0)], 0, ["#...................", "0:00            0:01"]),
    ([(0, 5e-324)], 0, ["#...................", "0:00            0:01"]),
])
def test_segments_gaps_and_overlaps(spans: list[tuple[float, float]], duration: float, rows: list[str]) -> None:
    assert drawn(spans, duration, len(rows[0])) == rows


def cut(count: int, seconds: float = 36.0) -> Adapter:
    video = source(duration=count * seconds)
    return join([make(i, start=i * seconds, end=(i + 1) * seconds, source=video) for i in range(count)])[0]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_hundred_segments_take_one_screen(width: int) -> None:
    lines = adapter_text(cut(100), width).splitlines()
    assert len(lines) < 35 and max(map(len, lines)) <= width
    at = next(i for i, line in enumerate(lines) if line.startswith("  timeline"))
    assert lines[at][15:] == "#" * (width - 15)
    assert lines[at + 1].split()[0] == "0:00" and lines[at + 1].endswith("1:00:00") and len(lines[at + 1]) == width
    assert "100 of 0:36, 3 frames each, 300 in all; --json lists them" in " ".join(" ".join(lines).split())


def test_every_segment_has_a_line_where_they_are_few() -> None:
    text = adapter_text(cut(3), 80)
    assert "at 0:00 0:12 0:36" in text and "segment 3    1:12 to 1:48, 3 frames" in text
    text = adapter_text(cut(20), 80)
    assert " at 0:" not in text and "segment 20   11:24 to 12:00, 3 frames" in text
    assert "timeline" not in adapter_text(make(1), 80)


def test_many_videos_are_summed_up() -> None:
    videos = [source(f"v{i}.mp4", sha256=f"{i:064x}") for i in range(30)]
    text = adapter_text(join([make(i, source=video) for i, video in enumerate(videos)])[0], 80)
    assert "sources      v0.mp4, 1:00.04" in text and "and 21 more; --json names all" in text
    assert "v9.mp4" not in text and "timeline" not in text and len(text.splitlines()) < 30
    text = adapter_text(join([make(i, source=video) for i, video in enumerate(videos[:2])])[0], 80)
    assert "timeline     v0.mp4\n               [1========].." in text and "timeline     v1.mp4" in text


def test_what_was_compressed_is_shown(tmp_path: Path) -> None:
    small = compress(cut(4), 5)
    save(join([small, make(9, start=900.0, end=920.0, source=source(duration=920.0))])[0], tmp_path / "a.v2lora")
    text = run("info", tmp_path / "a.v2lora").stdout
    block = small.compressed[0]
    for part in ("rank         13: 9 for 5 segments, 4 for the bias", "compressed   segments 1 to 4, from rank 16 to 5",
                 f"relative error {block['error']:.2g}, by layer {min(block['errors']):.2g} to "
                 f"{max(block['errors']):.2g}", '4 segments are asked as one, for "What happened?" too: one answer',
                 block["sha256"]):
        assert part in text
