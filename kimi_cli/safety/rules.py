"""Rules: what a person wrote down to allow, to ask about, and to deny."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from kimi_cli.protocol.sandbox import NOTHING, Grant

Tool = Literal["shell", "read", "write"]

_HEAD = re.compile(r"\s*([A-Za-z_][\w-]*)\s*")
_TOOLS: dict[str, Tool] = {"shell": "shell", "read": "read", "write": "write", "edit": "write"}
_PLAIN = re.compile(r"[\w@%+=:,./~{}^!?\[\]*-]+")
ANY = "**"
"""A word that stands for any number of words."""


@dataclass(frozen=True, slots=True)
class Rule:
    """``TOOL``, or ``TOOL(PATTERN)``, with what a command gets beyond the sandbox.

    ``words`` are a shell pattern's words and ``path`` is a file pattern; both None stands for every
    use of the tool. In both, ``*`` is a wildcard and a backslash takes a character's meaning away.
    ``source`` says where the rule stands, for people; it does not count for equality.
    """

    tool: Tool
    words: tuple[str, ...] | None = None
    path: str | None = None
    grant: Grant = NOTHING
    source: str = field(default="", compare=False)

    @staticmethod
    def parse(text: str, source: str = "") -> Rule:
        """Read a rule such as ``shell(npm run *)`` or ``shell(pip install) +network``.

        Raises ValueError saying what is wrong with it.
        """
        head = _HEAD.match(text)
        if head is None:
            raise ValueError(f"{text!r} is no rule: it begins with a tool, as in shell(git push)")
        tool = _TOOLS.get(head[1])
        if tool is None:
            raise ValueError(f"{head[1]!r} is no tool for rules: shell, read, write or edit")
        rule = Rule(tool, source=source)
        rest = text[head.end() :]
        if rest.startswith("("):
            body = rest[1:]
            if tool == "shell":
                words, rest = _shell_pattern(text, body)
                rule = replace(rule, words=words)
            else:
                path, rest = _path_pattern(text, body)
                rule = replace(rule, path=path)
        grant = _grants(text, rest)
        if grant and tool != "shell":
            raise ValueError(f"{text!r}: only a rule for shell can give something with +")
        return replace(rule, grant=grant)

    def __str__(self) -> str:
        text: str = self.tool
        if self.words is not None:
            text += f"({' '.join(_quoted(word) for word in self.words)})"
        if self.path is not None:
            text += "(" + re.sub(r"([()])", r"\\\1", self.path) + ")"
        return " ".join([text, *_grant_words(self.grant)])


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules in force. Deny wins over ask, ask over allow; their order doesn't matter.

    Raises ValueError when an ask or deny rule gives a command something.
    """

    allow: tuple[Rule, ...] = ()
    ask: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        for rule in (*self.ask, *self.deny):
            if rule.grant:
                raise ValueError(f"{rule}: only an allow rule can give something with +")

    @staticmethod
    def of(
        *,
        allow: Iterable[tuple[str, str]] = (),
        ask: Iterable[tuple[str, str]] = (),
        deny: Iterable[tuple[str, str]] = (),
    ) -> RuleSet:
        """From pairs of a rule's text and its source. Raises ValueError naming the source."""
        return RuleSet(_parsed(allow), _parsed(ask), _parsed(deny))

    def __or__(self, other: RuleSet) -> RuleSet:
        return RuleSet(self.allow + other.allow, self.ask + other.ask, self.deny + other.deny)


def _parsed(pairs: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for text, source in pairs:
        try:
            rules.append(Rule.parse(text, source))
        except ValueError as error:
            raise ValueError(f"{source}: {error}" if source else str(error)) from None
    return tuple(rules)


def _shell_pattern(text: str, body: str) -> tuple[tuple[str, ...], str]:
    """The words up to the closing bracket, and what follows it."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(body):
        char = body[at]
        at += 1
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"' and body[at : at + 1] in ('"', "\\"):
                word, at = (word or "") + literal(body[at]), at + 1
            else:
                word = (word or "") + literal(char)
        elif char in "'\"":
            quote, word = char, word or ""
        elif char == "\\":
            if at >= len(body):
                break
            word, at = (word or "") + literal(body[at]), at + 1
        elif char == ")" or char.isspace():
            if word is not None:
                words.append(word)
            word = None
            if char == ")":
                if not words:
                    raise ValueError(f"{text!r}: the brackets are empty; leave them out for all")
                return tuple(words), body[at:]
        elif char == "(":
            raise ValueError(f"{text!r}: a bracket in a pattern needs quotes")
        else:
            word = (word or "") + char
    raise ValueError(f"{text!r}: {'a quote' if quote else 'the bracket'} is not closed")


def _path_pattern(text: str, body: str) -> tuple[str, str]:
    path, at = "", 0
    while at < len(body):
        char = body[at]
        at += 1
        if char == "\\" and at < len(body):
            path += body[at] if body[at] in "()" else char + body[at]
            at += 1
        elif char == ")":
            if not path.strip():
                raise ValueError(f"{text!r}: the brackets are empty; leave them out for all")
            if path != path.strip():
                raise ValueError(f"{text!r}: the path begins or ends with a blank")
            return path, body[at:]
        elif char == "(":
            raise ValueError(f"{text!r}: a bracket in a path needs a backslash")
        else:
            path += char
    raise ValueError(f"{text!r}: the bracket is not closed")


_GRANT = re.compile(r"""\s*\+([a-z]+)(?::("(?:[^"\\]|\\.)*"|[^\s"]+))?(?=\s|$)""", re.DOTALL)


def _grants(text: str, rest: str) -> Grant:
    grant, at = NOTHING, 0
    while rest[at:].strip():
        match = _GRANT.match(rest, at)
        if match is None:
            raise ValueError(f"{text!r}: {rest[at:].strip()!r} is not understood")
        name, value = match[1], match[2] or ""
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        if name in ("write", "read"):
            if not value.startswith(("/", "~/")):
                raise ValueError(f"{text!r}: +{name}: needs a path that begins with / or ~/")
            grant |= Grant(write=(value,)) if name == "write" else Grant(read=(value,))
        elif name in ("network", "unsandboxed"):
            if match[2]:
                raise ValueError(f"{text!r}: +{name} takes no value")
            grant |= Grant(network=True) if name == "network" else Grant(unconfined=True)
        else:
            raise ValueError(
                f"{text!r}: +{name} is not known: +network, +write:PATH, +read:PATH, +unsandboxed"
            )
        at = match.end()
    return grant


def _grant_words(grant: Grant) -> list[str]:
    words = ["+network"] if grant.network else []
    words += [f"+write:{_value(path)}" for path in grant.write]
    words += [f"+read:{_value(path)}" for path in grant.read]
    return words + (["+unsandboxed"] if grant.unconfined else [])


def _value(path: str) -> str:
    if re.fullmatch(r"[^\s\"]+", path):
        return path
    return '"' + re.sub(r'(["\\])', r"\\\1", path) + '"'


def literal(text: str) -> str:
    """``text`` as a pattern that matches only itself."""
    return re.sub(r"([\\*])", r"\\\1", text)


def _quoted(word: str) -> str:
    """A pattern word as it is written in a rule."""
    if _PLAIN.fullmatch(word):
        return word
    if not word:
        return "''"
    out, at = "", 0
    while at < len(word):
        if word[at] == "\\":
            out, at = out + word[at : at + 2], at + 2
        else:
            plain = _PLAIN.fullmatch(word[at]) is not None
            out, at = out + (word[at] if plain else "\\" + word[at]), at + 1
    return out


def word_matcher(pattern: str, *, fold: bool = False) -> Callable[[str], bool]:
    """Whether a word matches one word of a pattern; ``fold`` makes letters' case not count."""
    expression, at = "", 0
    while at < len(pattern):
        if pattern[at] == "\\" and at + 1 < len(pattern):
            expression, at = expression + re.escape(pattern[at + 1]), at + 2
        else:
            expression += ".*" if pattern[at] == "*" else re.escape(pattern[at])
            at += 1
    compiled = re.compile(expression, re.DOTALL | (re.IGNORECASE if fold else 0))
    return lambda word: compiled.fullmatch(word) is not None
