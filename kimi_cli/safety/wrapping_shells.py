"""Shells, interpreters and the builtins that run text."""

from __future__ import annotations

import re
from dataclasses import replace

from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word
from kimi_cli.safety.unwrapping import Unwrapped, wrapped
from kimi_cli.safety.wrappers_data import CODE_LONG, WRAPPERS


def shell(part: Part) -> Unwrapped | None:
    """``bash -c TEXT``, ``bash FILE``, or a shell that reads commands."""
    argv, at, text_given, plain = part.argv, 1, False, part.name != "zsh"
    while at < len(argv):
        word = argv[at]
        if word.loose:
            return Unwrapped(opaque=f"what the shell runs is not known: {word.text}")
        text = word.text
        if text in ("--", "-"):
            at += 1
            break
        if text.startswith("--"):
            if text in ("--version", "--help"):
                return None
            plain = plain and text in ("--norc", "--noprofile", "--posix")
            at += 2 if text in ("--rcfile", "--init-file") else 1
        elif text[:1] in ("-", "+") and len(text) > 1:
            text_given = text_given or "c" in text
            if "s" in text and "c" not in text:
                at = len(argv)
                break
            plain = plain and not set(text[1:]) - set("ceuxvfo")
            named = "o" in text.lower()
            if named and [w.text for w in argv[at + 1 : at + 2]] != ["pipefail"]:
                plain = False
            at += 2 if named else 1
        else:
            break
    if text_given:
        if at < len(argv) and argv[at].known:
            return Unwrapped(scripts=(argv[at].text,), transparent=plain)
        return Unwrapped(opaque="the text that the shell runs is not known")
    if at < len(argv) and argv[at].text not in ("/dev/stdin", "/dev/fd/0"):
        unknown = not argv[at].known
        return Unwrapped(opaque="the script that the shell runs is not known") if unknown else None
    if part.stdin is not None:
        return Unwrapped(scripts=(part.stdin,), transparent=plain)
    return Unwrapped(opaque="the shell runs what it reads")


def interpreter(part: Part, code: str, values: str) -> Unwrapped | None:
    """``python -c TEXT`` and its like: opaque. A program file is not."""
    argv, at = part.argv, 1
    opaque = "it runs the program text that it is given"
    while at < len(argv):
        word = argv[at]
        text = word.text
        if word.loose:
            return Unwrapped(opaque=f"what it runs is not known: {text}")
        if text in ("-V", "-v", "--version", "-h", "--help"):
            return None
        if text == "-":
            break
        if text == "--" or not text.startswith("-"):
            known = at < len(argv) and (word.known or text == "--")
            return None if known else Unwrapped(opaque="the program that it runs is not known")
        long, _, given = text.partition("=")
        if long in CODE_LONG:
            value = Word(given) if given else argv[at + 1] if at + 1 < len(argv) else Word("")
            return Unwrapped(opaque=opaque, code=value.text if value.known else None)
        if text.startswith("--"):
            at += 1
            continue
        step = 1
        for i, letter in enumerate(text[1:], start=1):
            last = i == len(text) - 1
            if letter in code:
                if not last and code not in ("eE", "e", "ep"):
                    value = replace(word, text=text[i + 1 :])
                else:
                    value = argv[at + 1] if at + 1 < len(argv) else Word("")
                known = value.known and not value.loose
                return Unwrapped(
                    opaque=opaque, code=" ".join(w.text for w in argv[at:]) if known else None
                )
            if letter in values:
                if letter == "m" and part.name.startswith(("python", "pypy")):
                    module_known = not last or (at + 1 < len(argv) and argv[at + 1].known)
                    return None if module_known else Unwrapped(opaque="the module is not known")
                step = 2 if last else 1
                break
        at += step
    return Unwrapped(opaque="it runs the program text that it reads", code=part.stdin)


def awk(part: Part) -> Unwrapped | None:
    """awk's program is text too, which may start commands."""
    argv, at = part.argv, 1
    while at < len(argv) and argv[at].text.startswith("-") and not argv[at].loose:
        text = argv[at].text
        if text == "--":
            at += 1
            break
        if text.startswith(("-f", "-i", "-E", "--file", "--include", "--exec")):
            return None
        at += 2 if text in ("-F", "-v", "--field-separator", "--assign") else 1
    if at >= len(argv):
        return None
    program = argv[at]
    if not program.known:
        return Unwrapped(opaque="awk's program is not known")
    if re.search(r"system|\||@", program.text.replace("||", "")):
        return Unwrapped(opaque="awk's program may start commands", code=program.text)
    return None


# Builtins


def run_eval(part: Part) -> Unwrapped:
    words = part.argv[1:]
    if words and words[0].text == "--":
        words = words[1:]
    if all(word.known for word in words):
        return Unwrapped(scripts=(" ".join(word.text for word in words),), transparent=True)
    return Unwrapped(opaque="the text that eval runs is not known")


def source(part: Part) -> Unwrapped:
    return Unwrapped(opaque="what is in a sourced file is not known")


def trap(part: Part) -> Unwrapped | None:
    words = [w for w in part.argv[1:] if w.text != "--"]
    if not words or words[0].text in ("-l", "-p", "-"):
        return None
    if not words[0].known:
        return Unwrapped(opaque="the text that trap runs is not known")
    return Unwrapped(scripts=(words[0].text,), transparent=True)


def alias(part: Part) -> Unwrapped | None:
    if len(part.argv) == 1:
        return None
    values = [w.text.partition("=")[2] for w in part.argv[1:] if w.known and "=" in w.text]
    return Unwrapped(scripts=tuple(values), opaque="it changes what later words mean")


def changes(part: Part) -> Unwrapped | None:
    """``hash -p`` and ``enable -f`` give a name another program."""
    if any(w.text.startswith("-") or w.loose for w in part.argv[1:]):
        return Unwrapped(opaque="it changes what later words mean")
    return None


def command(part: Part) -> Unwrapped | None:
    if len(part.argv) > 1 and re.fullmatch(r"-p?[vV]+", part.argv[1].text):
        return None
    return wrapped(part.argv, WRAPPERS["command"][0], 1)
