"""The rule that "always" would write for a part of a command."""

from __future__ import annotations

import re

from kimi_cli.protocol.sandbox import NOTHING, Grant
from kimi_cli.safety.classify_data import NETWORK_UNDER
from kimi_cli.safety.rule_match import covers
from kimi_cli.safety.rules import Rule, literal
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.wrappers_data import CODE_OPTIONS, SHELLS, WRAPPERS

_NEVER = SHELLS | {
    *("rm", "rmdir", "dd", "mkfs", "shred", "chmod", "chown", "chgrp", "mv", "ln", "kill"),
    *("pkill", "killall", "tee", "install", "rsync", "scp", "ssh", "curl", "wget", "nc", "crontab"),
    *("reboot", "shutdown", "mount", "umount", "systemctl", "useradd", "passwd", "su", "env"),
    *("find", "xargs", "awk", "sed", "tar", "docker", "podman", "kubectl", "aws", "terraform"),
    *("export", "declare", "typeset", "local", "readonly", "unset", "set", "shopt", "read"),
}
"""Programs of which no general rule is proposed: what they do lies all in their other words."""
_SUBCOMMANDS = frozenset(NETWORK_UNDER) | {
    *("make", "just", "task", "tox", "nox", "gradle", "./gradlew", "mvn", "dotnet", "swift"),
    *("deno", "gh", "hatch", "rye", "bazel", "ninja", "apt", "apt-get", "brew", "helm", "flutter"),
    *("mix", "rails", "rake", "django-admin", "alembic", "pre-commit", "turbo", "nx", "lerna"),
}
_THIRD = {
    **dict.fromkeys(("npm", "pnpm", "yarn", "bun"), frozenset({"run", "run-script", "exec"})),
    **dict.fromkeys(("uv", "poetry", "pipenv", "pdm", "hatch", "rye"), frozenset({"run", "pip"})),
    "git": frozenset({"remote", "stash", "submodule", "worktree", "config", "bisect", "notes"}),
    "go": frozenset({"mod", "tool"}),
    "bundle": frozenset({"exec"}),
    "gh": frozenset({"pr", "issue", "run", "release", "repo", "api", "workflow"}),
}
_WORD = re.compile(r"[A-Za-z0-9_./:@][\w./:@-]*")


def suggestion(part: Part, grant: Grant = NOTHING) -> str | None:
    """The rule's text: the program with its subcommand, three words at the most, and ``grant``.

    None for what runs nobody knows, or programs whose name says nothing of what they do.
    """
    words = part.words
    if not words or part.opaque or part.writes or part.quirks or not part.argv[0].known:
        return None
    name = words[0]
    count = _count(part)
    if count == 0 or not all(word.known for word in part.argv[:count]):
        return None
    program = part.path if "/" in part.path else name
    if not program.isprintable():
        # Nobody can see what it is that they would allow.
        return None
    rule = Rule("shell", tuple(literal(w) for w in (program, *words[1:count])), None, grant)
    return str(rule) if covers(rule, part, False) else None


def _count(part: Part) -> int:
    """How many of the words the rule names; 0 for none."""
    words, name = part.words, part.name
    plain = [bool(_WORD.fullmatch(word)) for word in words[1:3]] + [False, False]
    if re.sub(r"[\d.]+$", "", name) in CODE_OPTIONS:
        if len(words) > 2 and words[1] == "-m" and plain[1]:
            return 3
        return 2 if plain[0] else 0
    if name in _SUBCOMMANDS:
        if not plain[0]:
            return 1 if name in ("make", "tox", "nox", "ninja") and len(words) == 1 else 0
        if words[1] in _THIRD.get(name, ()):
            return 3 if plain[1] else 0
        return 2
    if name in _NEVER or name in WRAPPERS:
        return 0
    return 1
