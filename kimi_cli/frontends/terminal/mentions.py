"""Files that a message names with ``@``: paths for the model, and images as such."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from kimi_cli.protocol.messages import ContentPart, MediaPart

BEGIN = r"(?<![A-Za-z0-9_.+\-/@])@"
"""Where a mention starts: not in the middle of a word, where an address or a package version has
its ``@``; Chinese and Japanese have no blanks between words."""

_MENTION = re.compile(BEGIN + r'(?:"((?:[^"\\\n]|\\[^\n])+)"|([^\s"@][^\s"]*))')
_NEEDS_QUOTES = re.compile(r'[\s"]|\A@')
# What may stand behind a path without a blank: a place in the file, then punctuation or text in a
# script that has no blanks. Anything else is part of the name.
_PLACE = r"(?::\d+(?:[-:]\d+)?)?"
_BEHIND = re.compile(
    _PLACE + r"""(?:[.,;:!?)\]}>'"`*…—。，、；：！？）】》」』”’]*)""" + r"(?:[^\x00-\x7f].*)?",
    re.S,
)
_HEAD = 64


class Found(NamedTuple):
    """A mention in a text: ``text[start:end]`` with its ``@``, and the path it may mean."""

    start: int
    end: int
    path: str
    quoted: bool


class Mentions(NamedTuple):
    """A message whose mentions are looked up. ``parts`` are its images; ``problems`` says, for
    people, why an image is not among them."""

    text: str
    parts: list[ContentPart]
    problems: list[str]


def mention(path: str) -> str:
    """The path as it is mentioned: ``@src/x.py``, ``@"a b.py"``."""
    if not _NEEDS_QUOTES.search(path):
        return f"@{path}"
    return '@"' + re.sub(r'([\\"])', r"\\\1", path) + '"'


def unquoted(inside: str) -> str:
    """What stands between the quotes of a mention, as a path."""
    return re.sub(r"\\(.)", r"\1", inside)


def find(text: str) -> Iterator[Found]:
    """What looks like a mention, in order."""
    for match in _MENTION.finditer(text):
        quoted = match[1] is not None
        yield Found(*match.span(), unquoted(match[1]) if quoted else match[2], quoted)


def resolve(text: str, base: Path) -> Mentions:
    """Look up the mentions: of a file or folder that exists, relative to ``base`` or to the
    user's home (``~/``), the path stays without the ``@``; an image (PNG, JPEG, GIF, WebP, by its
    content) comes as a part too. Anything else stays as it was typed. Reads files."""
    pieces: list[str] = []
    images: dict[Path, ContentPart] = {}
    problems: list[str] = []
    last = 0
    for found in find(text):
        named = _named(found, base)
        if named is None:
            continue
        path, length = named
        real = _located(path, base)
        written = os.path.expanduser(path)
        pieces.append(text[last : found.start])
        pieces.append(mention(written)[1:] if found.quoted or written != path else path)
        last = found.end if found.quoted else found.start + 1 + length
        if real not in images:
            image = _image(real, path)
            if isinstance(image, str):
                problems.append(image)
            elif image is not None:
                images[real] = image
    pieces.append(text[last:])
    return Mentions("".join(pieces), list(images.values()), problems)


def dropped(pasted: str, base: Path) -> str | None:
    """Mentions for a paste that is nothing but the absolute paths of images, as terminals write
    what is dropped on them (blanks with a backslash, in quotes, ``file://``); None for any other
    text. A path inside ``base`` becomes relative."""
    text = pasted.strip()
    if not text.startswith(("/", "file://", "'", '"')) or "\n" in text:
        return None
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    for paths in ([text], words):
        local = [path for word in paths if (path := _local(word)) and _is_image(Path(path))]
        if local and len(local) == len(paths):
            return " ".join(mention(_relative(path, base)) for path in local) + " "
    return None


def _named(found: Found, base: Path) -> tuple[str, int] | None:
    """The path that exists, and how many characters of the mention it is: without what stands
    behind it, where only that makes it one that exists."""
    path = found.path
    if _exists(path, base):
        return path, len(path)
    if found.quoted:
        return None
    for end in range(len(path) - 1, 0, -1):
        # In a row of such letters nothing says where the name ends.
        between = path[end].isalnum() and not path[end - 1].isascii()
        if not between and _BEHIND.fullmatch(path, end) and _exists(path[:end], base):
            return path[:end], end
    return None


def _located(path: str, base: Path) -> Path:
    return base / os.path.expanduser(path)


def _exists(path: str, base: Path) -> bool:
    try:
        return _located(path, base).exists()
    except (OSError, ValueError):
        return False


def _image(path: Path, shown: str) -> ContentPart | str | None:
    """The image in a file, why it can't be sent, or None for a file that holds none."""
    import base64

    from kimi_cli.tools.read import MEDIA_LIMIT
    from kimi_cli.tools.text_bytes import media_type

    if not _is_image(path):
        return None
    try:
        with path.open("rb") as file:
            content = file.read(MEDIA_LIMIT + 1)
    except OSError as error:
        return f"{shown}: {error.strerror}"
    if len(content) > MEDIA_LIMIT:
        return f"{shown} is larger than {MEDIA_LIMIT >> 20} MiB: only its path is sent"
    _, mime = media_type(content) or ("", "")
    data = base64.b64encode(content).decode()
    return MediaPart(kind="image", url=f"data:{mime};base64,{data}", name=path.name)


def _is_image(path: Path) -> bool:
    from kimi_cli.tools.text_bytes import media_type

    try:
        # A pipe or a device must not be opened: it may wait, or do something.
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            kind, _ = media_type(file.read(_HEAD)) or ("", "")
    except (OSError, ValueError):
        return False
    return kind == "image"


def _local(word: str) -> str | None:
    """The absolute path that a word of a paste is."""
    if word.startswith("file://"):
        try:
            parts = urlsplit(word)
        except ValueError:
            return None
        word = unquote(parts.path) if parts.netloc in ("", "localhost") else ""
    return word if word.startswith("/") and "\n" not in word else None


def _relative(path: str, base: Path) -> str:
    place = Path(path)
    return place.relative_to(base).as_posix() if place.is_relative_to(base) else path
