"""How the command line prints: results on stdout, all else on stderr, and nothing that a terminal would act on."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import stat
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from typer.core import TyperGroup

from v2l.cli.values import PlainValues
from v2l.cli.wrap import wrap_lines
from v2l.errors import OutputError, UsageError, V2LError, debugging, sentence
from v2l.system.interrupts import interrupt_behind, message_and_status

if TYPE_CHECKING:
    from v2l.cli.bar import Bar
    from v2l.cli.pace import Log

PIPE_CLOSED = 141
"""Exit status where the reader of stdout went away; the shell gives it to what SIGPIPE ends."""

_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f"
"""Control characters other than newline and tab."""
_CONTROLS = re.compile(f"[{_CONTROL}]")
_UNSAFE = re.compile(f"[{_CONTROL}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and the marks that reorder text."""


def clean(text: str) -> str:
    """Text of a file or a model, made harmless to a terminal: all that v2l prints on one passes through here."""
    return _UNSAFE.sub("\ufffd", text)


def harmless(text: str) -> str:
    """Text without control characters, for a pipe or a file: marks of writing from the right stay."""
    return _CONTROLS.sub("\ufffd", text)


def one_line(text: str) -> str:
    """`clean`, for a name or a sentence, which cannot pretend to be two lines then."""
    return clean(text).replace("\n", "\ufffd")


def is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()


def columns(stream: TextIO | None = None) -> int | None:
    """Width of the terminal that a stream, stdout without one, is; None where it is none."""
    stream = stream or sys.stdout
    if not is_terminal(stream):
        return None
    with suppress(OSError, ValueError):
        if not os.environ.get("COLUMNS") and (width := os.get_terminal_size(stream.fileno()).columns) > 0:
            return width
    return shutil.get_terminal_size().columns


def _is_piped(stream: TextIO | None) -> bool:
    """Whether a stream goes into another program."""
    with suppress(OSError, ValueError):
        return stream is not None and stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    return False


def ready_streams() -> None:
    """Sets stdout and stderr up so that no character fails to print, and the bytes of a file name reach a pipe as they
    are."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            bytewise = not is_terminal(stream) and stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if bytewise else "backslashreplace")


# Results.


def write(text: str, end: str = "\n") -> None:
    """Prints a piece of a result to stdout, at once. OutputError where stdout cannot take it.

    To a terminal goes what `clean` leaves, to a pipe or a file what `harmless` does: what reads those may well show it
    on a terminal.
    """
    _put(clean(text) if is_terminal(sys.stdout) else harmless(text), end)


def write_path(path: str | os.PathLike[str]) -> None:
    """Prints a file's name as a result: to a pipe byte for byte, in any locale, so that a program finds the file.
    OutputError."""
    name = os.fspath(path)
    if is_terminal(sys.stdout):
        _put(one_line(name))
    else:
        _put(os.fsencode(name) + b"\n" if hasattr(sys.stdout, "buffer") else name)


def _put(text: str | bytes, end: str = "\n") -> None:
    if sys.stdout is None:
        raise OutputError("Cannot write to stdout: it is closed.")
    try:
        if isinstance(text, bytes):
            sys.stdout.buffer.write(text)  # nothing waits above it: every piece of text is flushed
            sys.stdout.buffer.flush()
        else:
            print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten(error) from error


def _unwritten(error: OSError) -> OutputError:
    _abandon(sys.stdout)
    return OutputError(f"Cannot write to stdout: {error.strerror or error}.")


def write_json(value: Any) -> None:
    """Prints one line of JSON, in printable ASCII: any locale takes it, and no terminal acts on it. OutputError."""
    write(json.dumps(value).replace("\x7f", "\\u007f"))


# Everything else.


class Console:
    """Prints the notes and the progress of one command on stderr; `quiet` leaves only errors."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._bar: Bar | Log | None = None

    @property
    def is_beside_results(self) -> bool:
        """Whether notes are seen where results are: on a terminal that takes both."""
        return not self.quiet and is_terminal(sys.stdout) and is_terminal(sys.stderr)

    def note(self, text: str) -> None:
        if not self.quiet:
            self.aside()  # or the text would stand at the end of the bar's row, which then stays
            _print_message(text)

    def warn(self, text: str) -> None:
        self.note(f"Note: {one_line(text)}")

    @contextmanager
    def working(self, title: str, of: int | None = None, seeing: Callable[[], float] = lambda: 1.0, log: bool = True
                ) -> Iterator[None]:
        """Shows a bar until the block ends or `stop`: first the title, then what `progress` reports. Where the work is
        on `of` items, each reported to `finished`, it shows how long the rest takes (`seeing` as for `pace.Work`).
        Without a terminal, a line a minute says the same, unless nothing is to (`log`)."""
        # What reads a pipe, a pager above all, most likely draws on the very terminal that the bar would.
        if self.quiet or (is_terminal(sys.stderr) and _is_piped(sys.stdout)):
            yield
            return
        from v2l.cli.pace import Log, Work

        work = Work(one_line(title), of, seeing=seeing)
        if is_terminal(sys.stderr) and os.environ.get("TERM") not in ("dumb", "unknown"):
            from v2l.cli.bar import Bar

            self._bar = Bar(work)
        elif log:
            self._bar = Log(work, _print_message)
        try:
            if self._bar:
                self._bar.show()
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Takes the bar away for good, before its block ends."""
        if self._bar:
            self._bar.hide()
            self._bar = None

    def aside(self) -> None:
        """Takes the bar away for something to be printed, until `progress` is next reported."""
        if self._bar:
            self._bar.hide()

    def progress(self, title: str, done: int, total: int | None) -> None:
        """Shows progress as the engine reports it: frames of a video, or bytes of a download (`system.progress`)."""
        if self._bar:
            self._bar.update(one_line(title), done, total)

    def finished(self, worked: bool) -> None:
        """Counts one item as finished; `worked` unless it was up to date."""
        if self._bar:
            self._bar.finish(worked)


def _print_message(text: str) -> None:
    # A reader of messages that went away stops no work, nor does a disk that is full of them.
    with suppress(OSError):
        print(wrap_lines(clean(text), columns(sys.stderr)), file=sys.stderr, flush=True)


def report(error: Exception, subject: str = "") -> None:
    """Prints one sentence on stderr for whatever was raised; with V2L_DEBUG=1 the traceback before it. Raises
    KeyboardInterrupt where that is what it came of."""
    if interrupt := interrupt_behind(error):
        raise interrupt
    if debugging():
        _print_message("".join(traceback.format_exception(error)))
    _print_message(f"Error: {one_line(sentence(error, subject))}")


class Failures:
    """Reports and counts the inputs that failed, so that the command can go on with the others."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, error: Exception, name: str | Path) -> None:
        report(error, subject=f"{name}: ")
        self.count += 1

    def exit(self) -> None:
        """Raises typer.Exit with status 1 if any failed."""
        if self.count:
            raise typer.Exit(1)


class Boundary(PlainValues, TyperGroup):
    """The group of all commands, where every error becomes one sentence and an exit status."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        return _bounded(lambda: super(Boundary, self).make_context(*args, **kwargs))

    def invoke(self, ctx: Any) -> Any:
        def work() -> Any:
            _check_working_folder()
            return super(Boundary, self).invoke(ctx)

        return _bounded(work)


def _check_working_folder() -> None:
    """UsageError where it was deleted: relative names mean nothing then, and MKL ends the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError("The working folder no longer exists; change to another one.") from None


def _bounded(work: Callable[[], Any]) -> Any:
    with _interruptible():
        ready_streams()
        try:
            return work()
        except BrokenPipeError:
            raise typer.Exit(PIPE_CLOSED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if hasattr(error, "format_message"):  # Typer's, which it would print in its own words
                from v2l.cli.usage import usage_error

                error = usage_error(error)
            if isinstance(error, OSError) and traceback.extract_tb(error.__traceback__)[-1].name == "echo":
                error = _unwritten(error)  # help, which Typer prints by itself
            report(error)
            raise typer.Exit(error.exit_status if isinstance(error, V2LError) else 1) from None
        finally:
            _flush()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Says "Interrupted." on Ctrl-C; Typer would say nothing."""
    try:
        yield
    except KeyboardInterrupt as error:
        text, status = message_and_status(error)
        _print_message(text)
        raise typer.Exit(status) from None


def _flush() -> None:
    """Drops what could not be written, so that the interpreter does not complain of it at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            _abandon(stream)


def _abandon(stream: TextIO) -> None:
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
