"""Programs with a way of their own to say what they run."""

from __future__ import annotations

import re
from dataclasses import replace

from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word
from kimi_cli.safety.unwrapping import ASSIGNMENT, Argv, Unwrapped, after, given, wrapped
from kimi_cli.safety.wrappers_data import WRAPPERS


def env(part: Part) -> Unwrapped:
    argv, at = part.argv, 1
    assignments: list[str] = []
    quirks: list[str] = []
    while at < len(argv):
        word = argv[at]
        text = word.text
        if word.loose:
            return Unwrapped(opaque=f"what env runs is not known: {text}")
        split = re.match(r"(?:--split-string=?|-[iv0]*S)", text)
        if split:
            rest = argv[at + 1 :]
            words = [
                *([Word(text[split.end() :], word.known)] if text[split.end() :] else []),
                *rest,
            ]
            if not words or not all(w.known for w in words):
                return Unwrapped(opaque="the text that env splits is not known")
            return Unwrapped(
                scripts=(" ".join(w.text for w in words),), assignments=tuple(assignments)
            )
        if text == "--" or text == "-":
            at += 1
        elif text in ("-u", "--unset", "-C", "--chdir", "-P"):
            quirks += ["it runs in another place"] if text in ("-C", "--chdir", "-P") else []
            at += 2
        elif text.startswith("-"):
            quirks += ["it runs in another place"] if text.startswith(("-C", "--ch")) else []
            at += 1
        elif ASSIGNMENT.match(text):
            assignments.append(text)
            at += 1
        else:
            break
    commands = ((argv[at:], at),) if at < len(argv) else ()
    return Unwrapped(
        commands, transparent=True, assignments=tuple(assignments), quirks=tuple(quirks)
    )


def xargs(part: Part) -> Unwrapped:
    found = wrapped(part.argv, WRAPPERS["xargs"][0], 1)
    if not found.commands:
        return found
    (argv, at), *_ = found.commands
    own = [w.text for w in part.argv[1:at]]
    marks = [own[i + 1] for i, w in enumerate(own[:-1]) if w == "-I"]
    marks += [w[2:] for w in own if w.startswith("-I") and len(w) > 2]
    marks += ["{}" for w in own if w in ("-i", "--replace")]
    if not marks:
        return found
    unknown = tuple(
        replace(w, known=False, loose=not re.match(r"[\w./]", w.text))
        if any(mark in w.text for mark in marks)
        else w
        for w in argv
    )
    return replace(found, commands=((unknown, at),), more=False)


def find(part: Part) -> Unwrapped | None:
    """``-exec`` and its like; find's own words are the classification's business."""
    argv = part.argv
    commands: list[tuple[Argv, int]] = []
    at = 1
    while at < len(argv):
        if argv[at].text in ("-exec", "-execdir", "-ok", "-okdir"):
            start = at + 1
            while at + 1 < len(argv) and not (
                argv[at + 1].text == ";" or (argv[at + 1].text == "+" and argv[at].text == "{}")
            ):
                at += 1
            words = tuple(
                replace(w, known=False, loose=w.text.startswith("-")) if "{}" in w.text else w
                for w in argv[start : at + 1]
            )
            if words:
                commands.append((words, start))
        at += 1
    return Unwrapped(tuple(commands)) if commands else None


def fd(part: Part) -> Unwrapped | None:
    for at, word in enumerate(part.argv):
        if word.text in ("-x", "-X", "--exec", "--exec-batch") and at + 1 < len(part.argv):
            return Unwrapped(((part.argv[at + 1 :], at + 1),), more=True)
    return None


def rg(part: Part) -> Unwrapped | None:
    for at, word in enumerate(part.argv):
        if word.text == "--pre" and at + 1 < len(part.argv):
            return Unwrapped((((part.argv[at + 1],), at + 1),), more=True)
        if word.text.startswith("--pre="):
            return Unwrapped((((Word(word.text[6:], word.known),), at),), more=True)
    return None


def su(part: Part) -> Unwrapped:
    found = given(after(part.argv, "-c", "--command", "--session-command"), part.name)
    return found or Unwrapped(opaque="the shell runs what it reads")


def typescript(part: Part) -> Unwrapped | None:
    return given(after(part.argv, "-c", "--command"), "script")


def tar(part: Part) -> Unwrapped | None:
    options = (
        "-I",
        "--use-compress-program",
        "--to-command",
        "-F",
        "--info-script",
        "--rsh-command",
    )
    checkpoints = [w for w in after(part.argv, "--checkpoint-action") if w.text.startswith("exec=")]
    return given(
        [*after(part.argv, *options), *(replace(w, text=w.text[5:]) for w in checkpoints)], "tar"
    )


def hyperfine(part: Part) -> Unwrapped | None:
    return given([w for w in part.argv[1:] if not w.text.startswith("-")], "hyperfine")


def flock(part: Part) -> Unwrapped | None:
    return given(after(part.argv, "-c", "--command"), "flock") or wrapped(
        part.argv, WRAPPERS["flock"][0], 1
    )


def npx(part: Part) -> Unwrapped | None:
    return given(after(part.argv, "-c", "--call"), "npx") or wrapped(
        part.argv, WRAPPERS["npx"][0], 1
    )


def time(part: Part) -> Unwrapped:
    """The keyword and the program, which can write a file."""
    written = after(part.argv, "-o", "--output")
    argv = tuple(w for w in part.argv if w.text not in ("-o", "-a", "--output", "--append"))
    argv = tuple(w for w in argv if w not in written and not w.text.startswith("--output="))
    found = wrapped(argv, WRAPPERS["time"][0], 1)
    return replace(found, writes=tuple(w.text for w in written))


_SSH_VALUES = "BbcDEeFIiJLlmOoPpQRSWw"


def ssh(part: Part) -> Unwrapped | None:
    argv, at = part.argv, 1
    local: list[Word] = []
    while at < len(argv) and argv[at].text.startswith("-") and argv[at].text != "-":
        word = argv[at]
        if word.loose:
            return Unwrapped(opaque=f"what ssh runs is not known: {word.text}")
        at += 1
        for i, letter in enumerate(word.text[1:], start=1):
            if letter in _SSH_VALUES:
                value = replace(word, text=word.text[i + 1 :])
                if i == len(word.text) - 1 and at < len(argv):
                    value, at = argv[at], at + 1
                key, _, setting = value.text.partition("=")
                if letter == "o" and key.lower() in ("proxycommand", "localcommand"):
                    local.append(replace(value, text=setting))
                break
    remote = argv[at + 1 :]
    if remote and not all(word.known for word in remote):
        return Unwrapped(opaque="the command that ssh runs is not known")
    scripts = [word.text for word in local]
    scripts += [" ".join(word.text for word in remote)] if remote else []
    return Unwrapped(scripts=tuple(scripts)) if scripts else None
