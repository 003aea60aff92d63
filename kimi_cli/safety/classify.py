"""What a part of a command does: reads only, or more; stays here, or reaches the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kimi_cli.safety import classify_data as data
from kimi_cli.safety.classify_git import git_reads, git_words
from kimi_cli.safety.classify_options import objection
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word

Kind = Literal["read-only", "writes", "network", "opaque"]


@dataclass(frozen=True, slots=True)
class Class:
    """``reason`` says why it is not read-only; ``writes`` stands for all that isn't known to be
    harmless."""

    read_only: bool
    network: bool = False
    opaque: bool = False
    reason: str = ""

    @property
    def kind(self) -> Kind:
        if self.opaque:
            return "opaque"
        if self.network:
            return "network"
        return "read-only" if self.read_only else "writes"


def classify(part: Part) -> Class:
    """What ``part`` does by itself; what it wraps are parts of their own. Judged by what is known
    to be harmless: all else is not read-only."""
    network = _network(part)
    if part.opaque:
        return Class(False, network, True, part.opaque)
    reason = _beyond_words(part) or (_words(part) if part.argv else "")
    if network:
        return Class(False, True, reason="it uses the network")
    return Class(not reason, reason=reason)


def _beyond_words(part: Part) -> str:
    """What keeps it from being read-only besides its words."""
    if part.quirks:
        return part.quirks[0]
    if part.writes:
        return f"it writes {part.writes[0]}"
    declares = part.name in ("declare", "typeset", "local", "readonly")
    for assignment in part.assignments:
        name, _, value = assignment.partition("=")
        plain = bool(data.SAFE_TO_EXPORT.fullmatch(name) and data.PLAIN_VALUE.fullmatch(value))
        if plain or (name.endswith("PAGER") and part.argv and value in ("", "cat")):
            continue
        if name == "IFS" and part.name == "read":
            continue
        if data.CHANGES_PROGRAMS.fullmatch(name) or (part.argv and not declares):
            return f"setting {name} may change what runs"
    return ""


def _words(part: Part) -> str:
    folder, slash, _ = part.path.rpartition("/")
    name = part.name
    if slash and folder not in data.STANDARD_FOLDERS:
        return f"{part.path} is not known"
    rest = part.argv[1:]
    if part.transparent:
        return ""
    if len(rest) == 1 and rest[0].text == "--version" and rest[0].known:
        return "" if name in data.VERSIONED else f"{name} is not known to only read"
    special = _SPECIAL.get(name)
    if special:
        return special(part)
    reader = data.READERS.get(name)
    if reader is None:
        return f"{name} is not known to only read"
    # find's options are words behind a single dash; what -exec runs are parts of their own.
    if name == "find":
        return _find(part)
    return objection(rest, reader, part.more)


def _network(part: Part) -> bool:
    if any(path.startswith(("/dev/tcp/", "/dev/udp/")) for path in (*part.reads, *part.writes)):
        return True
    name = re.sub(r"[\d.]+$", "", part.name)
    if name in data.NETWORK or part.name in data.NETWORK:
        return True
    words = part.words[1:]
    if name == "git":
        words = git_words(part.argv)
    elif name == "rsync":
        return any(re.match(r"[^/]+:|rsync://", word) for word in words)
    if name == "yarn" and not words:
        return True
    plain = [word for word in words if not word.startswith("-")]
    under = data.NETWORK_UNDER.get(name, frozenset())
    # An option may take the next word as its value: both that and the one behind are looked at.
    candidates = plain[:1] if words[:1] == tuple(plain[:1]) else plain[:2]
    if under.intersection(candidates):
        return True
    return (name, *words[:2]) in data.NETWORK_SECOND


def _find(part: Part) -> str:
    bad = data.READERS["find"].bad.split()
    wrapping = ("exec", "execdir", "ok", "okdir")
    for word in part.argv[1:]:
        if word.loose:
            return f"{word.text} may be an option"
        option = word.text.removeprefix("-")
        if word.text.startswith("-") and option in bad and option not in wrapping:
            return f"find {word.text} changes files"
        if word.text in ("-execdir", "-okdir"):
            return f"find {word.text} runs where it finds things"
    return "it adds words that are not known" if part.more else ""


def _test(part: Part) -> str:
    if any(word.splits for word in part.argv) or part.more:
        return "a test of a variable without quotes"
    loose = [i for i, word in enumerate(part.argv) if word.loose and i > 0]
    operators = ("=", "==", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge")
    for i in loose:
        before = part.argv[i - 1].text if i > 1 else ""
        after = part.argv[i + 1].text if i + 1 < len(part.argv) else ""
        if not (after in operators or before.startswith("-") or before in operators):
            return "a test of a variable that may be an operator"
    unsafe = any(word.text in ("-v", "-R", "-a", "-o") for word in part.argv)
    return "a test that may run what an index says" if unsafe else ""


def _double_bracket(part: Part) -> str:
    return ""


def _printf(part: Part) -> str:
    words = part.argv[1:]
    if words and (words[0].text.startswith("-v") or (words[0].loose and len(words) > 1)):
        return "printf may set a variable"
    return ""


_NAME = re.compile(r"[A-Za-z_]\w*")


def _names(words: Sequence[Word], flags: str, *, exported: bool = False) -> str:
    for word in words:
        text = word.text
        if not word.known or word.loose:
            return f"{text} is not known"
        if text.startswith("-") and not set(text[1:]) - set(flags):
            continue
        if not _NAME.fullmatch(text) or data.CHANGES_PROGRAMS.fullmatch(text):
            return f"setting {text} may change what runs"
        if exported and not data.SAFE_TO_EXPORT.fullmatch(text):
            return f"setting {text} may change what runs"
    return ""


def _read(part: Part) -> str:
    words, at = list(part.argv[1:]), 0
    while at < len(words) and words[at].text.startswith("-") and words[at].known:
        if set(words[at].text[1:]) - set("rsnNptduei"):
            return "read with an option that is not known"
        at += 2 if words[at].text[-1] in "nNptdui" else 1
    return _names(words[at:], "")


def _set(part: Part) -> str:
    words = [word.text for word in part.argv[1:]]
    while words and words[0] != "--":
        text = words.pop(0)
        if not re.fullmatch(r"[-+][euxfCvo]+", text):
            return "set with an option that is not known"
        if "o" in text:
            name = words.pop(0) if words else ""
            if name not in ("pipefail", "errexit", "nounset", "xtrace", "noglob", "verbose"):
                return "set with an option that is not known"
    return "" if words or not any(w.loose for w in part.argv) else "set with unknown words"


def _shopt(part: Part) -> str:
    known = ("-s", "-u", "-q", "nullglob", "globstar", "dotglob", "failglob", "inherit_errexit")
    return "" if all(w.text in known for w in part.argv[1:]) else "shopt changes how words are read"


_SED_TOKEN = r"(?:\\[^\n]|\[\^?\]?(?:\[:[a-z]+:\]|[^\]{d}\\\[\n])+\]|[^{d}\\\[\n])*"


def _sed_commands() -> re.Pattern[str]:
    """Print, delete and quit; substitutions without the flags ``w`` and ``e``."""
    slash = _SED_TOKEN.replace("{d}", "/")
    address = rf"(?:\d+|\$|/{slash}/)"
    substitutions = "|".join(
        rf"s{d}{_SED_TOKEN.replace('{d}', d)}{d}(?:\\[^\n]|[^{d}\\\n])*{d}[gpiI0-9]*"
        for d in ("/", r"\|", "#", ",", "@")
    )
    one = rf"\s*(?:{address}(?:,{address})?)?\s*!?\s*(?:[pdq=]|{substitutions})\s*"
    return re.compile(rf"{one}(?:;{one})*;?")


def _sed(part: Part) -> str:
    scripts: list[str] = []
    words, at, bare = part.argv[1:], 0, True
    operands: list[Word] = []
    while at < len(words):
        word = words[at]
        if word.loose:
            return f"{word.text} may be an option"
        if word.text in ("-e", "--expression") and at + 1 < len(words):
            at, bare = at + 1, False
            scripts.append(words[at].text if words[at].known else "?")
        elif word.text.startswith("-"):
            if not re.fullmatch(r"-[nErsuz]+|--(quiet|silent|regexp-extended)", word.text):
                return f"sed {word.text} may change files"
        else:
            operands.append(word)
        at += 1
    if bare and operands:
        scripts.append(operands[0].text if operands[0].known else "?")
    if part.more or not scripts or not all(_sed_commands().fullmatch(s) for s in scripts):
        return "sed's script may change files or run commands"
    return ""


def _awk(part: Part) -> str:
    words, at = part.argv[1:], 0
    while at < len(words) and words[at].text.startswith(("-F", "-v")):
        if words[at].loose:
            return f"{words[at].text} may be an option"
        at += 2 if words[at].text in ("-F", "-v") else 1
    if at >= len(words) or not words[at].known or words[at].text.startswith("-"):
        return "awk's program is not known"
    if re.search(r"[|>@]|system|getline", words[at].text):
        return "awk's program may write or run commands"
    return ""


def _tar(part: Part) -> str:
    texts = [word.text for word in part.argv[1:]]
    plain = len(texts) >= 2 and re.fullmatch(r"-?t[vzjJ]*f", texts[0]) and ":" not in texts[1]
    rest = all(not w.loose and not w.text.startswith("-") for w in part.argv[2:])
    return "" if plain and rest and not part.more else "tar writes files"


def _unzip(part: Part) -> str:
    texts = [word.text for word in part.argv[1:]]
    plain = len(texts) >= 2 and texts[0] in ("-l", "-v", "-Z1", "-p")
    rest = all(not w.loose and not w.text.startswith("-") for w in part.argv[2:])
    return "" if plain and rest and not part.more else "unzip writes files"


def _date(part: Part) -> str:
    allowed = re.compile(r"\+.*|-u|-R|-I\w*|--utc|--iso-8601(=\w+)?|--rfc-\S+", re.DOTALL)
    words = list(part.argv[1:])
    while words:
        word = words.pop(0)
        if word.text in ("-d", "--date", "-r", "--reference") and words:
            words.pop(0)
        elif word.text.startswith(("--date=", "--reference=")):
            continue
        elif word.loose or not allowed.fullmatch(word.text):
            return "date may set the clock"
    return "date may set the clock" if part.more else ""


def _tee(part: Part) -> str:
    files = [w.text for w in part.argv[1:] if w.loose or not w.text.startswith("-")]
    return "tee writes files" if part.more or set(files) - {"/dev/null"} else ""


def _command(part: Part) -> str:
    return (
        "" if len(part.argv) > 1 and re.fullmatch(r"-p?[vV]+", part.argv[1].text) else "a command"
    )


_SPECIAL: dict[str, Callable[[Part], str]] = {
    "[": _test,
    "test": _test,
    "[[": _double_bracket,
    "printf": _printf,
    "read": _read,
    "set": _set,
    "shopt": _shopt,
    "sed": _sed,
    "gsed": _sed,
    "tar": _tar,
    "unzip": _unzip,
    "date": _date,
    "tee": _tee,
    "command": _command,
    "git": git_reads,
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), _awk),
    "export": lambda part: _names(part.argv[1:], "p", exported=True),
    "unset": lambda part: _names(part.argv[1:], "fv"),
    **dict.fromkeys(
        ("declare", "typeset", "local", "readonly"), lambda part: _names(part.argv[1:], "aAr")
    ),
}
