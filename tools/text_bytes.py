"""Bytes of a file as text and back, without losing one of them.

Pure functions. ``decode`` and ``encode`` are exact inverses for every content, so an edit of the
text leaves all other bytes alone.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_ERRORS = {"utf-8": "surrogateescape", "utf-16-le": "surrogatepass", "utf-16-be": "surrogatepass"}
_NAMES = {
    "utf-8": "UTF-8",
    "cp1252": "windows-1252",
    "latin-1": "ISO 8859-1",
    "gb18030": "GB 18030",
}
_MAGIC = (
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive or office document"),
    (b"\x1f\x8b", "gzip data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"\x7fELF", "ELF program or library"),
    (b"SQLite format 3\0", "SQLite database"),
    (b"\xca\xfe\xba\xbe", "Java class or Mach-O binary"),
    (b"\xcf\xfa\xed\xfe", "Mach-O binary"),
    (b"\0asm", "WebAssembly module"),
    (codecs.BOM_UTF32_LE, "UTF-32 text"),
    (codecs.BOM_UTF32_BE, "UTF-32 text"),
)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
# GB 2312: rows of punctuation and full-width forms, and of the 3,755 most used characters.
_COMMON_LEADS = bytes([*range(0xA1, 0xA4), *range(0xB0, 0xD8)])
# Containers of the ISO base media family that hold stills or sound, by brand.
_NOT_VIDEO = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis", b"M4A ", b"M4B ")


class Unencodable(Exception):
    """The file's encoding has no bytes for ``character``."""

    def __init__(self, character: str, encoding: str) -> None:
        super().__init__(f"{encoding} has no {character!r} (U+{ord(character):04X})")


class Encoding(NamedTuple):
    """How a file stores text: a codec of Python's, and the byte order mark it starts with."""

    codec: str = "utf-8"
    bom: bytes = b""

    @property
    def name(self) -> str:
        """For people and the model."""
        if self.codec.startswith("utf-16"):
            return "UTF-16"
        return _NAMES[self.codec] + (" with BOM" if self.bom else "")

    @property
    def unit(self) -> int:
        """Bytes of a code unit; a newline stands at a multiple of it."""
        return 2 if self.codec.startswith("utf-16") else 1

    @property
    def newline(self) -> bytes:
        return "\n".encode(self.codec)


class Text(NamedTuple):
    """A file's content. ``tail`` is the odd byte after the last whole unit of UTF-16."""

    encoding: Encoding
    text: str
    tail: bytes = b""


def media_type(head: bytes) -> tuple[str, str] | None:
    """("image" or "video", MIME type) by the first bytes of a file, or None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image", "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image", "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image", "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image", "image/webp"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "video", "video/x-msvideo"
    if head[4:8] == b"ftyp" and head[8:12] not in _NOT_VIDEO:
        return "video", "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video", "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "video", "video/mpeg"
    return None


def binary_kind(head: bytes) -> str | None:
    """What a file is that does not hold text, by its first bytes; None when it may be text."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    sample = head[:8192]
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    return "binary data" if b"\0" in sample or controls * 10 > len(sample) else None


def detect(content: bytes, *, whole: bool = True) -> Encoding:
    """The encoding of text: by its BOM, else UTF-8 unless most of what is not ASCII speaks
    against it, else a guess. ``whole`` False: ``content`` is only the beginning."""
    for bom, codec in _BOMS:
        if content.startswith(bom):
            return Encoding(codec, bom)
    text = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode(content, final=whole)
    if text.isascii():
        return Encoding()
    broken = len(re.findall("[\udc80-\udcff]", text))
    sound = len(re.findall("[^\x00-\x7f\udc80-\udcff]", text))
    if sound >= broken:
        return Encoding()
    if _is_chinese(content, whole):
        return Encoding("gb18030")
    return Encoding("cp1252" if _decodes(content, "cp1252") else "latin-1")


def decode(content: bytes) -> Text:
    """Text that ``encode`` turns into exactly ``content`` again."""
    encoding = detect(content)
    body = content[len(encoding.bom) :]
    end = len(body) - len(body) % encoding.unit
    decoded = body[:end].decode(encoding.codec, _ERRORS.get(encoding.codec, "strict"))
    text = Text(encoding, decoded, body[end:])
    # GB 18030 has more than one way to write some characters.
    if encoding.codec == "gb18030" and encode(text) != content:
        return Text(Encoding("latin-1"), content.decode("latin-1"))
    return text


def encode(text: Text) -> bytes:
    """The bytes of a file. Raises Unencodable for a character its encoding lacks."""
    codec = text.encoding.codec
    try:
        body = text.text.encode(codec, _ERRORS.get(codec, "strict"))
    except UnicodeEncodeError as error:
        raise Unencodable(text.text[error.start], text.encoding.name) from None
    return text.encoding.bom + body + text.tail


def dominant_newline(text: str) -> str:
    """What most lines of a text end with; "" when there is no line end."""
    all_ends = text.count("\n")
    if not all_ends:
        return ""
    return "\r\n" if text.count("\r\n") * 2 > all_ends else "\n"


def with_newlines(text: str, newline: str) -> str:
    """The text with every line ending so; "" leaves it as it is."""
    plain = text.replace("\r\n", "\n") if newline else text
    return plain.replace("\n", "\r\n") if newline == "\r\n" else plain


def _is_chinese(content: bytes, whole: bool) -> bool:
    """Chinese text of the GB family has two high bytes a character, the first of them mostly that
    of a common character or of punctuation; Western text seldom has two accented letters in a
    row, and then small ones, which are not in that range."""
    runs = re.findall(rb"[\x80-\xff]+", content)
    if not whole:
        runs = runs[:-1]
    leads = b"".join(run[::2] for run in runs)
    common = len(leads) - len(leads.translate(None, _COMMON_LEADS))
    return (
        all(len(run) % 2 == 0 for run in runs)
        and common * 10 >= len(leads) * 7
        and _decodes(content, "gb18030", whole)
    )


def _decodes(content: bytes, codec: str, whole: bool = True) -> bool:
    try:
        codecs.getincrementaldecoder(codec)("strict").decode(content, final=whole)
    except UnicodeDecodeError:
        return False
    return True
