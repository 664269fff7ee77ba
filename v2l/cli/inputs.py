"""What the words and the lists that name inputs stand for: files, adapters below folders, questions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.cli.console import Console, Failures
from v2l.config import ADAPTER_SUFFIX
from v2l.errors import AdapterError, UsageError, V2LError
from v2l.system.lines import line_batches
from v2l.wording import command, nearest, shell_word

if TYPE_CHECKING:
    from v2l.adapter import Adapter
    from v2l.adapter.record import Record
    from v2l.engine import Engine


def expand(words: Iterable[str]) -> Iterator[str]:
    """The words, with `-` standing for the names that stdin lists, each given as it is read. UsageError where stdin
    holds no list."""
    for word in words:
        if word != "-":
            yield word
        elif sys.stdin:
            for lines in line_batches(sys.stdin.buffer, os.fsdecode):
                yield from map(_name_in, lines)


def _name_in(line: str) -> str:
    """The name that a line of a list gives: without the quotes that `ls -Q`, or Windows where it copies a path, puts
    around it, where nothing is called so with them."""
    bare = line[1:-1]
    quoted = len(line) > 2 and line[0] == line[-1] and line[0] in "\"'"
    return bare if quoted and os.path.lexists(bare) and not os.path.lexists(line) else line


def listed_in(file: str) -> list[str]:
    """The names that a file lists; `-` is stdin. UsageError where it cannot be read, or lists nothing."""
    try:
        if file == "-":
            names = list(expand("-"))
        else:
            with open(file, "rb") as stream:
                names = [_name_in(line) for lines in line_batches(stream, os.fsdecode, file) for line in lines]
    except OSError as error:
        raise UsageError(f"Cannot read the list {file}: {error.strerror}.") from None
    if not names:
        raise UsageError(f"{file} names nothing; write one name a line.")
    return names


def adapters_of(words: Iterable[str], console: Console, failures: Failures | None = None,
                output: Path | None = None, others: bool = True) -> Iterator[str]:
    """The adapters that words name: files, with or without their ending, and those below folders, sorted, without
    `output`. Tells what was passed over; without `others`, not the files that are no adapters.

    What fails is counted in `failures` and stops no other. Without these, AdapterError is raised.
    """
    from v2l.adapter.find import adapter_file, find_adapters

    final = None if output is None else os.path.realpath(output)
    for word in expand(words):
        if not os.path.isdir(word):
            yield adapter_file(word) or word
            continue
        try:
            found = find_adapters(Path(word))
        except V2LError as error:
            if failures is None:
                raise
            failures.add(error, word)
            continue
        if not others:
            found.others.clear()
        for note in found.notes("adapters"):
            console.warn(f"{word}: {note}")
        for closed in found.closed:
            barred = AdapterError(f"{closed} may not be entered; check its permissions.")
            if failures is None:
                raise barred
            failures.add(barred, closed)
        yield from (str(path) for path in found.files if os.path.realpath(path) != final)


def read_fitting(names: Iterable[str], read: Callable[[str], Adapter], engine: Engine,
                 failed: Callable[[V2LError, list[str]], None]) -> Iterator[tuple[str, Adapter]]:
    """The adapters that were made for the engine's base, each read as it is needed, with its name. What cannot be read
    is told to `failed` at once, and at the end those of every other base together."""
    misfits: dict[str, list[str]] = {}
    for name in names:
        try:
            adapter = read(name)
        except V2LError as error:
            failed(error, [name])
            continue
        base = adapter.record["base"]
        if base["fingerprint"] == engine.base.fingerprint:
            yield name, adapter
        else:
            misfits.setdefault(base_text(adapter.record), []).append(name)
    tell_misfits(misfits, engine.files.name, failed)


def base_text(record: Record) -> str:
    """The base of an adapter, and as much of its fingerprint as people compare."""
    base = record["base"]
    return f"{base['id']} ({base['fingerprint'][:19]})"


def tell_misfits(misfits: Mapping[str, list[str]], model: str, failed: Callable[[V2LError, list[str]], None]) -> None:
    """Tells `failed` of the adapters that were made for each other base than `model`."""
    for base, others in misfits.items():
        were = f"{others[0]} was" if len(others) == 1 else f"{', '.join(others)} were"
        failed(AdapterError(f"{were} made for the base {base}, not {model}; ask by themselves, or name "
                            "another --model."), others)


def adapters_and_questions(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which words name adapters, or folders of them, and which are questions. UsageError for a file that is no adapter:
    a file that is there is never a question."""
    from v2l.adapter.find import adapter_file

    names, questions = list[str](), list[str]()
    for word in words:
        if os.path.isdir(word) or adapter_file(word):
            names.append(adapter_file(word) or word)
        elif word == "-" or not os.path.lexists(word):
            if _is_path(word):
                raise UsageError(f"{word} is not there; a question that is one word and looks like a name can be put "
                                 f"through stdin: {command('ask', *names) if names else 'v2l ask ADAPTER'} -.")
            questions.append(as_text(word))
        else:
            raise _no_question(word, names)
    return names, questions


def _is_path(word: str) -> bool:
    """Whether a word can only be meant as the name of a file or folder: one without white space that ends as those do,
    or lies in a folder that is there."""
    from v2l.video.folder import EXTENSIONS

    folder, suffix = os.path.dirname(word), os.path.splitext(word)[1].lower()
    if len(word.split()) != 1:
        return False
    ends = word.endswith(("/", os.sep)) or suffix in (*EXTENSIONS, ".jsonl", ".json", ".txt")
    return ends or bool(nearest(suffix, [ADAPTER_SUFFIX])) or bool(folder and os.path.isdir(folder))


def _no_question(file: str, names: list[str]) -> UsageError:
    from v2l.adapter.find import adapter_file
    from v2l.system.files import without_ending
    from v2l.video.folder import EXTENSIONS

    if file.lower().endswith(EXTENSIONS):
        adapter = adapter_file(str(without_ending(Path(file), EXTENSIONS))) or adapter_file(file)
        way = (f"ask its adapter: {command('ask', adapter)} QUESTION" if adapter
               else f"watch it first: {command('ingest', file)}")
        return UsageError(f"{file} is a video, and no question; {way}, or ask it itself: "
                          f"{command('ask --direct', file)} QUESTION.")
    asked = command("ask", *names) if names else "v2l ask ADAPTER"
    return UsageError(f"{file} is a file, and no question; to ask what its lines say: {asked} - < {shell_word(file)}.")


def as_text(word: str) -> str:
    """An argument as text: where the locale does not know its bytes, as UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return os.fsencode(word).decode(errors="replace")
    return word
