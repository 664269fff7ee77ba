"""What is given for a video and is none: no file that can be read, or a file of another kind, told by how it begins."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from v2l.errors import VideoError
from v2l.video.mp4 import overclaims
from v2l.video.structure import mp4_boxes
from v2l.wording import shell_word

_HEAD = 1 << 16
"""Bytes that tell."""
_NAME_OF_TAR = 257
"""Where a tar archive says that it is one."""
_FEW = 64
"""Boxes of an mp4 that tell whether it begins with the head of the film."""
_FIRST_BOXES = (b"ftyp", b"styp", b"sidx", b"moof", b"emsg", b"prft", b"wide", b"mdat", b"free", b"skip")
"""How files of such boxes begin."""
_MATROSKA, _TRACKS, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
TEXT = "is text, not a video"
_WEB_PAGE = "is a web page, not a video; download the video itself"
_KINDS = (
    ("version https://git-lfs", "is a git-lfs pointer, not the video; fetch that with: git lfs pull"),
    ("<!doctype html", _WEB_PAGE),
    ("[internetshortcut]", "is a link to a web page, not a video; download the video itself"),
    ("\x1f\x8b", "is packed with gzip; unpack it first"),
    ("bzh", "is packed with bzip2; unpack it first"),
    ("\xfd7zxz", "is packed with xz; unpack it first"),
    ("(\xb5/\xfd", "is packed with zstd; unpack it first"),
    ("pk\x03\x04", "is a zip archive; unpack it first"),
    ("rar!", "is a RAR archive; unpack it first"),
    ("7z\xbc\xaf", "is a 7z archive; unpack it first"),
    ("\x00\x05\x16\x07", "holds what a Mac notes of another file, not a video; the video has its name without ._"),
    ("l\x00\x00\x00\x01\x14\x02\x00", "is a shortcut of Windows, not a video; give the video itself"),
    ("%pdf-", "is a PDF document, not a video"),
)
"""How files begin that are taken for videos, in small letters, and what they are."""
_JOINED = ("#extm3u", "ffconcat version")
"""How playlists begin that FFmpeg makes one film of; it does so of DASH's, too."""
_LISTS, _ENDINGS = ("asx", "playlist", "smil", "smoothstreamingmedia"), (".m3u", ".m3u8")
"""First elements of other playlists in XML, and how names end of those that may hold nothing but names."""
_BLANKS = str.maketrans("\n\r\t\f", "    ")


def check_file(path: Path) -> None:
    """Raises VideoError for what is no file that can be read, with the way out."""
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder, not a video.")
        if not path.exists():
            _refuse_address(str(path))
            raise VideoError(f"{path}: no such file.")
        if not path.is_file():
            raise VideoError(f"{path} is not a regular file; save the video to a file first.")
        with path.open("rb") as file:
            if not file.read(1):
                raise VideoError(f"{path} is empty.")
        if overclaims(path):
            raise VideoError(f"{path} says it holds more frames than it has bytes; copy or download it again.")
    except PermissionError as error:
        raise VideoError(f"{path} may not be read; check its permissions.") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read ({error}).") from error


def _refuse_address(name: str) -> None:
    """Raises VideoError for an address, in which a Path makes one slash of two or three."""
    if name.startswith("file:/"):
        raise VideoError(f"{name.replace(':/', ':///', 1)} is an address; give the name of the file: "
                         f"{shell_word(unquote(name[5:]))}.")
    if re.match(r"[a-z][a-z0-9+]+:/", name):
        shown = re.sub(r":/+(?:[^/]*@)?", "://", name, count=1)  # a password is nobody's business
        raise VideoError(f"{shown} is an address, and v2l reads videos from files only; download the video first, or "
                         "watch what is live with: v2l watch.")


def other_kind(path: Path) -> str:
    """What a file is that is no video: the end of a sentence, with the way out; empty where that is not known.
    OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.strip(b"\0"):
        return "holds nothing but zeros, as where a download was begun and not finished; download it again"
    if head[_NAME_OF_TAR : _NAME_OF_TAR + 5] == b"ustar":
        return "is a tar archive; unpack it first"
    text = _text(head)
    begin = (text or head[:_FEW].decode("latin-1")).lower()
    if known := next((told for words, told in _KINDS if begin.startswith(words)), ""):
        return known
    return _kind_of_text(text.lower(), path) if text else _part_of_stream(path, head)


def _text(head: bytes) -> str:
    """How a file begins that holds nothing but text; empty for others."""
    coding = "utf-16" if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "utf-8-sig"
    try:  # the last letter may be cut off
        text = getincrementaldecoder(coding)().decode(head).strip()
    except UnicodeDecodeError:
        return ""
    return text if text.translate(_BLANKS).isprintable() else ""


def _kind_of_text(text: str, path: Path) -> str:
    element = re.search(r"<([a-z][^\s/>]*)", text) if text.startswith("<") else None
    name = element[1] if element else ""
    if name == "html":
        return _WEB_PAGE
    joined = text.startswith(_JOINED) or name == "mpd"
    if not (joined or text.startswith("[playlist]") or name in _LISTS or path.suffix.lower() in _ENDINGS):
        return TEXT
    whole = path.with_suffix(".mp4").name
    return "is a playlist, not a video; give the video files that it names" + (
        f", or one made of them (ffmpeg -i {shell_word(path)} -c copy {shell_word(whole)})" if joined else "")


def _part_of_stream(path: Path, head: bytes) -> str:
    """What to do with a segment of a stream (DASH, HLS) without its head, with such a head alone, and with a film that
    lacks the index at its end."""
    kinds = list(islice(_outermost(path, head), _FEW))
    ending = "webm" if head.startswith((_MATROSKA, _CLUSTER)) else "mp4"
    whole = f"whole.{ending}"
    if kinds[:1] == [_CLUSTER] or (b"moof" in kinds and b"moov" not in kinds[: kinds.index(b"moof")]):
        return ("is a segment of a stream, whose head is in another file (the init segment); put that before it "
                f"(cat init.{ending} {shell_word(path)} > {whole})")
    if (kinds[:1] == [_MATROSKA] and _TRACKS in head and _CLUSTER not in head and len(head) < _HEAD) or (
            b"moov" in kinds and b"mvex" in head and not {b"moof", b"mdat"} & {*kinds}):
        return ("is the head of a stream (the init segment), whose pictures are in other files; put these behind it "
                f"(cat {shell_word(path)} SEGMENT... > {whole})")
    if b"mdat" in head and kinds and not {b"moov", b"moof", b"meta"} & {*kinds}:
        return ("lacks the index that cameras write at the end (moov), as where one lost power or a copy was not "
                "finished; copy it again, or mend it with a tool such as untrunc")
    return ""


def _outermost(path: Path, head: bytes) -> Iterator[bytes]:
    """What a file of a stream holds: the kinds of an mp4's boxes, or the id of Matroska's first element."""
    if head.startswith((_MATROSKA, _CLUSTER)):
        yield head[:4]
    elif head[4:8] in _FIRST_BOXES:
        with path.open("rb") as file:
            yield from (kind for kind, _ in mp4_boxes(file, os.fstat(file.fileno()).st_size))
