"""What is given for a video and is none: no file that can be read, or a file of another kind, told by how it begins."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from v2l.errors import VideoError
from v2l.video.mp4 import overclaims
from v2l.video.structure import mp4_boxes
from v2l.wording import shell_word

HEAD = 1 << 16
"""Bytes that tell."""
_TAR, _SUM = 512, slice(148, 156)
"""Bytes of the head of a file in a tar archive, and where it says their sum, in which it counts as spaces itself."""
_DISC, _DISCS = slice(32769, 32774), (b"CD001", b"BEA01")
"""Where an image of a disc says so (ISO 9660, UDF), and what."""
_PAGE = 4096
"""Bytes within which a program of Windows says that it is one."""
_FEW = 64
"""Boxes of an mp4 that tell whether it begins with the head of the film."""
_FIRST_BOXES = (b"ftyp", b"styp", b"sidx", b"moof", b"emsg", b"prft", b"wide", b"mdat", b"free", b"skip")
"""How files of such boxes begin."""
_MATROSKA, _TRACKS, _CLUSTER = b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"
TEXT = "is text, not a video"
_WEB_PAGE = "is a web page, not a video; download the video itself"
_PICTURE, _PROGRAM = "is a picture, not a video", "is a program, not a video"
_OFFICE = "is an office document, not a video; unpack it as a zip archive, and give the videos that are in it"
_KINDS = (
    ("version https://git-lfs", "is a git-lfs pointer, not the video; fetch that with: git lfs pull"),
    ("<!doctype html", _WEB_PAGE),
    ("<html", _WEB_PAGE),
    ("[internetshortcut]", "is a link to a web page, not a video; download the video itself"),
    ("\x1f\x8b\x08", "is packed with gzip; unpack it first"),
    ("bzh", "is packed with bzip2; unpack it first"),
    ("\xfd7zxz", "is packed with xz; unpack it first"),
    ("(\xb5/\xfd", "is packed with zstd; unpack it first"),
    ("pk\x03\x04", "is a zip archive; unpack it first"),
    ("rar!", "is a RAR archive; unpack it first"),
    ("7z\xbc\xaf", "is a 7z archive; unpack it first"),
    ("mscf\0\0\0\0", "is a cabinet archive; unpack it first"),
    ("!<arch>", "is an ar archive, such as packages of Debian are; unpack it first"),
    ("warc/", "is an archive of web pages; unpack it first"),
    ("\x00\x05\x16\x07", "holds what a Mac notes of another file, not a video; the video has its name without ._"),
    ("l\x00\x00\x00\x01\x14\x02\x00", "is a shortcut of Windows, not a video; give the video itself"),
    ("%pdf-", "is a PDF document, not a video"),
    ("%!ps", "is a PostScript document, not a video"),
    ("{\\rtf", "is an RTF document, not a video"),
    ("\xf0\xef\x11\xe0\xa1\xb1\x1a\xe1", "is a file of Office or Windows (.doc, .ppt, Thumbs.db), not a video"),
    ("8bps", _PICTURE),
    ("fujifilmccd-raw", _PICTURE),
    ("\x7felf", _PROGRAM),
    ("\xef\xfa\xed\xfe", _PROGRAM),
    ("\xea\xfe\xba\xbe", _PROGRAM),
    ("sqlite format 3\0", "is an SQLite database, not a video"),
    ("\x89hdf\r\n\x1a\n", "is an HDF5 file, not a video; write the pictures in it to a video first"),
    ("par1\x15", "is a Parquet file, not a video; write the pictures in it to a video first"),
    ("#rosbag v", "is a recording of a robot (rosbag), not a video; write the pictures in it to a video first"),
    ("\x89mcap0\r\n", "is a recording of a robot (MCAP), not a video; write the pictures in it to a video first"),
)
"""How files begin that are taken for videos, in small letters (those of Latin-1, too), and what they are."""
_OF_OFFICES = (b"[Content_Types].xml", b"_rels/.rels", b"docProps/", b"mimetypeapplication/vnd.")
"""First files, in zip archives, of documents in Office Open XML and OpenDocument."""
_OF_MAILS = re.compile(rb"(from|received|return-path|message-id|mime-version):", re.IGNORECASE)
_HEADER = re.compile(rb"[!-9;-~]+:|[ \t]|from ", re.IGNORECASE)
"""How lines begin by which mails are told, and how all do that are above a mail's empty line."""
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
            head = file.read(HEAD)
        if not head:
            raise VideoError(f"{path} is empty.")
        if known := begins_as(head):  # FFmpeg would search the whole file for pictures, and make one film of them
            raise VideoError(f"{path} {known}.")
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
        head = file.read(HEAD)
    if not head.strip(b"\0"):
        return "holds nothing but zeros, as where a download was begun and not finished; download it again"
    if known := begins_as(head):
        return known
    text = _text(head)
    return _kind_of_text(text.lower(), path) if text else _part_of_stream(path, head)


def begins_as(head: bytes) -> str:
    """What a file is whose first bytes (`HEAD` of them) are no video's: the end of a sentence, with the way out; empty
    for others."""
    if _is_tar(head):
        return "is a tar archive; unpack it first"
    if head[_DISC] in _DISCS:
        return "is the image of a disc; open it, and give the videos that are on it"
    if head.startswith(b"PK\x03\x04") and head[30:].startswith(_OF_OFFICES):
        return _OFFICE
    if head.startswith(b"MZ") and b"PE\0\0" in head[:_PAGE]:
        return _PROGRAM
    if _is_mail(head):
        return "is a mail, or a web page that was saved as one, not a video; save what is attached to it first"
    begin = (_text(head) or head.removeprefix(BOM_UTF8).lstrip()[:_FEW].decode("latin-1")).lower()
    return next((told for words, told in _KINDS if begin.startswith(words)), "")


def _is_tar(head: bytes) -> bool:
    """Whether the sum of the first file's head is what it says; not all programs write that it is tar's."""
    try:
        said = int(head[_SUM].strip(b" \0"), 8)
    except ValueError:
        return False
    return said == sum(head[:_TAR]) - sum(head[_SUM]) + 8 * ord(" ")


def _is_mail(head: bytes) -> bool:
    lines = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].splitlines() if _HEADER.match(head) else []
    return all(map(_HEADER.match, lines)) and any(map(_OF_MAILS.match, lines))


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
    if (kinds[:1] == [_MATROSKA] and _TRACKS in head and _CLUSTER not in head and len(head) < HEAD) or (
            b"moov" in kinds and b"mvex" in head and not {b"moof", b"mdat"} & {*kinds}):
        return ("is the head of a stream (the init segment), whose pictures are in other files; put these behind it "
                f"(cat {shell_word(path)} SEGMENT... > {whole}), unless it is all that a recorder wrote before it was "
                "stopped")
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
