"""What `v2l serve` may be asked: names, changes, damage, links that lead out, and how much stays in memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.adapters import make, source
from support.videos import write

from v2l.adapter import Adapter, save
from v2l.engine import Engine
from v2l.errors import AdapterError, UsageError
from v2l.serve.library import Library
from v2l.serve.refusal import Refusal
from v2l.serve.shelf import Shelf


def kept(path: Path, **changed: object) -> Path:
    """A small adapter's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(make(**changed), path)  # type: ignore[arg-type]
    return path


def refused(library: Library, id: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        library.entry(id)
    return caught.value


def test_an_adapter_is_named_by_its_path_below_the_folder(tmp_path: Path) -> None:
    for name in ("lecture.v2lora", "talks/part 1.5.v2lora", "talks/.hidden.v2lora", "talks/notes.txt"):
        kept(tmp_path / name)
    assert list(Library([tmp_path]).entries()) == ["lecture", "talks/part 1.5"]


def test_several_folders_and_files_have_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/talks/x.v2lora", "b/talks/x.v2lora", "c/x.v2lora", "c/y.v2lora"):
        kept(tmp_path / name)
    library = Library([tmp_path / "a/talks", tmp_path / "b/talks", tmp_path / "c/x.v2lora", tmp_path / "c/y.v2lora"])
    assert list(library.entries()) == ["a/talks/x", "b/talks/x", "x", "y"]


def test_what_is_neither_a_folder_nor_an_adapter_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"film\.mp4 is neither a folder nor an adapter"):
        Library([tmp_path / "film.mp4"])


def test_the_folder_is_looked_at_anew_at_every_call(tmp_path: Path) -> None:
    library = Library([tmp_path])
    assert library.entries() == {}
    first = kept(tmp_path / "a.v2lora")
    before = library.entry("a")
    kept(tmp_path / "a.v2lora", seed=1, end=9.0)
    assert library.entry("a").version != before.version
    assert library.entry("a").record["segments"][0]["end"] == 9.0
    first.unlink()
    assert refused(library, "a").status == 404
    assert library.entries() == {}


def test_a_name_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    for name in ("talks/lecture.v2lora", "talks/seminar.v2lora"):
        kept(tmp_path / name)
    for wrong in ("talks/lecturer", "lecture", "talks/lecture.v2lora", "Talks/Lecture"):
        assert "did you mean talks/lecture" in str(refused(Library([tmp_path]), wrong)), wrong
    assert "did you mean" not in str(refused(Library([tmp_path]), "zzz"))


def test_no_name_leads_out_of_the_library(tmp_path: Path) -> None:
    outside = kept(tmp_path / "outside.v2lora")
    kept(tmp_path / "library/in.v2lora")
    library = Library([tmp_path / "library"])
    for name in ("../outside", "../outside.v2lora", str(outside), str(outside.with_suffix("")), "%2e%2e/outside",
                 "..%2foutside", "./in", "in/../in", "", ".", "/", "in\0"):
        assert refused(library, name).status == 404, name


def test_a_link_out_of_the_library_is_told_and_not_followed(tmp_path: Path) -> None:
    outside, folder = kept(tmp_path / "outside.v2lora"), tmp_path / "library"
    kept(folder / "in.v2lora")
    (folder / "out.v2lora").symlink_to(outside)
    (folder / "again.v2lora").symlink_to(folder / "in.v2lora")
    (folder / "gone.v2lora").symlink_to(folder / "nothing.v2lora")
    entries = Library([folder]).entries()
    assert sorted(entries) == ["again", "out"], "one file has one name"
    assert entries["out"].error == "out.v2lora is a link that leads out of the folders that are served."
    with pytest.raises(AdapterError, match="leads out"):
        entries["out"].record  # noqa: B018
    assert Library([folder / "out.v2lora"]).entry("out").error == "", "who names a link means what it leads to"


def test_a_damaged_file_is_listed_with_its_sentence_and_without_its_folder(tmp_path: Path) -> None:
    good = kept(tmp_path / "good.v2lora")
    (tmp_path / "cut.v2lora").write_bytes(good.read_bytes()[:-100])
    (tmp_path / "text.v2lora").write_text("hello")
    (tmp_path / "folder.v2lora").mkdir()
    entries = Library([tmp_path]).entries()
    assert sorted(entries) == ["cut", "good", "text"]
    assert "cut short" in entries["cut"].error and entries["text"].error.startswith("text.v2lora is not a usable")
    assert not any(str(tmp_path) in entry.error for entry in entries.values())


def test_headers_are_read_once_for_as_long_as_files_stay_the_same(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    from v2l.serve import library as module

    read: list[str] = []
    load_label = module.load_label
    monkeypatch.setattr(module, "load_label", lambda path: (read.append(path.name), load_label(path))[1])
    kept(tmp_path / "a.v2lora")
    kept(tmp_path / "b.v2lora")
    library = Library([tmp_path])
    library.entries()
    library.entries()
    kept(tmp_path / "b.v2lora", end=9.0)
    library.entries()
    assert read == ["a.v2lora", "b.v2lora", "b.v2lora"]


# Videos.


def of_video(video: Path, adapter: Path, **changed: object) -> Path:
    """An adapter's file that says it is of a video."""
    from v2l.system.cache import hash_of

    return kept(adapter, source=source(video.name, size=video.stat().st_size, sha256=hash_of(video), **changed))


def why_no_video(library: Library, id: str, number: int = 0) -> str:
    with pytest.raises(Refusal) as caught:
        library.video(library.entry(id), number)
    assert caught.value.status == 404
    return str(caught.value)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return write(tmp_path / "library/film.mp4", frames=3)


def test_a_video_is_found_beside_its_adapter_or_elsewhere_in_the_library(film: Path) -> None:
    folder = film.parent
    of_video(film, folder / "film.v2lora")
    of_video(film, folder / "kept/film.v2lora")
    library = Library([folder])
    assert library.video(library.entry("film"), 0) == film
    assert library.video(library.entry("kept/film"), 0) == film
    assert "no video number 1" in why_no_video(library, "film", 1)
    shutil.copy(film, folder / "kept/film.mp4")
    assert library.video(library.entry("kept/film"), 0) == folder / "kept/film.mp4"


def test_a_video_that_changed_or_vanished_is_not_served(film: Path) -> None:
    of_video(film, film.parent / "film.v2lora")
    library = Library([film.parent])
    content = bytearray(film.read_bytes())
    content[-1] ^= 1
    film.write_bytes(content)
    os.utime(film, (2e9, 2e9))  # newer than the adapter, and of the same size
    assert why_no_video(library, "film") == "film.mp4 has changed since it was watched; ingest it again."
    film.write_bytes(content + b"more")
    assert "or has changed" in why_no_video(library, "film")
    listed = library.entry("film")
    film.unlink()
    assert "not beside film.v2lora" in why_no_video(library, "film")
    assert listed.videos == (None,)


@pytest.mark.parametrize("name", ["../secret.mp4", "/etc/passwd", "..", "a/../../secret.mp4", "sub/film.mp4"])
def test_a_record_that_names_a_path_leads_nowhere(tmp_path: Path, name: str) -> None:
    secret = write(tmp_path / "secret.mp4", frames=3)
    (tmp_path / "library/sub").mkdir(parents=True)
    shutil.copy(secret, tmp_path / "library/sub/film.mp4")
    size = secret.stat().st_size
    kept(tmp_path / "library/a.v2lora", source=source(name, size=size))
    assert Library([tmp_path / "library"]).entry("a").videos == (None,)


def test_a_video_that_is_a_link_out_of_the_library_or_no_video_is_not_served(film: Path, tmp_path: Path) -> None:
    folder = film.parent
    secret = film.rename(tmp_path / "secret.mp4")
    film.symlink_to(secret)
    of_video(film, folder / "film.v2lora")
    (folder / "passwords.txt").write_text("secret")
    of_video(folder / "passwords.txt", folder / "text.v2lora")
    library = Library([folder])
    assert "not beside" in why_no_video(library, "film")
    assert "not beside" in why_no_video(library, "text")


# What stays in memory.


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine("tiny")


@pytest.fixture(scope="module")
def watched(tiny: Engine, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return tiny.ingest(write(tmp_path_factory.mktemp("film") / "film.mp4", frames=50))


def test_adapters_are_loaded_once_and_those_asked_last_stay(tiny: Engine, watched: Adapter, tmp_path: Path) -> None:
    for name in "abc":
        save(watched, tmp_path / f"{name}.v2lora")
    once = Library([tmp_path])
    once.parts(once.entry("a"), tiny)
    each = once.held_bytes
    library = Library([tmp_path], held=2 * each)
    parts = {name: library.parts(library.entry(name), tiny) for name in "ab"}
    assert library.held_bytes == 2 * each
    assert library.parts(library.entry("a"), tiny) is parts["a"]
    library.parts(library.entry("c"), tiny)
    assert library.held_bytes == 2 * each, "bounded"
    assert library.parts(library.entry("a"), tiny) is parts["a"], "asked after b"
    assert library.parts(library.entry("b"), tiny) is not parts["b"]


def test_a_file_that_changed_is_another_adapter(tiny: Engine, watched: Adapter, tmp_path: Path) -> None:
    from dataclasses import replace

    save(watched, tmp_path / "a.v2lora")
    library = Library([tmp_path])
    listed = library.entry("a")
    before = library.parts(listed, tiny)
    save(replace(watched, A=watched.A * 2), tmp_path / "a.v2lora")
    after = library.parts(listed, tiny)
    assert (after.whole[0].A != before.whole[0].A).any()
    assert library.parts(library.entry("a"), tiny) is after
    one = library.held_bytes
    library.parts(listed, tiny, (0.0, 1.0))
    assert library.held_bytes == 2 * one, "what it was is not kept; a part of it is kept beside it"
    (tmp_path / "a.v2lora").unlink()
    with pytest.raises(Refusal, match="there no more"):
        library.parts(listed, tiny)


def test_damage_that_only_the_values_show_is_listed_from_then_on(tiny: Engine, watched: Adapter, tmp_path: Path
                                                                 ) -> None:
    save(watched, tmp_path / "a.v2lora")
    content = bytearray((tmp_path / "a.v2lora").read_bytes())
    content[-7] ^= 1
    (tmp_path / "a.v2lora").write_bytes(content)
    library = Library([tmp_path])
    assert library.entry("a").error == ""
    with pytest.raises(AdapterError, match=r"^a\.v2lora is not a usable adapter: .*sha256"):
        library.parts(library.entry("a"), tiny)
    assert "sha256" in library.entries()["a"].error
    save(watched, tmp_path / "a.v2lora")
    assert library.entries()["a"].error == ""


def test_an_adapter_of_another_base_is_refused_and_not_called_damaged(tiny: Engine, tmp_path: Path) -> None:
    kept(tmp_path / "a.v2lora")
    library = Library([tmp_path])
    with pytest.raises(AdapterError, match=r"^a\.v2lora was made for the base"):
        library.parts(library.entry("a"), tiny)
    assert library.entries()["a"].error == ""


def test_a_shelf_makes_a_value_once_however_many_ask() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    made: list[int] = []
    shelf: Shelf[str] = Shelf(10)
    together = Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        return shelf.get("a", lambda: (made.append(1), ("value", 4))[1])

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"value"}
    assert made == [1] and shelf.used == 4


def test_a_shelf_holds_nothing_that_failed_or_is_larger_than_it() -> None:
    shelf: Shelf[str] = Shelf(10)
    with pytest.raises(ZeroDivisionError):
        shelf.get("a", lambda: (str(1 / 0), 1))
    assert shelf.get("a", lambda: ("small", 6)) == "small"
    assert shelf.get("b", lambda: ("large", 11)) == "large"
    assert "a" in shelf and "b" not in shelf and shelf.used == 6
