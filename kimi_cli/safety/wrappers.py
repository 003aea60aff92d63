"""What a program that runs other programs would run."""

from __future__ import annotations

import re
from collections.abc import Callable

from kimi_cli.safety import wrapping_programs as programs
from kimi_cli.safety import wrapping_shells as shells
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.unwrapping import Unwrapped, wrapped
from kimi_cli.safety.wrappers_data import CODE_OPTIONS, SHELLS, WRAPPERS
from kimi_cli.safety.wrapping_git import git

_VERSIONED = re.compile(r"[\d.]+$")


def unwrap(part: Part) -> Unwrapped | None:
    """What ``part`` runs besides itself; None when that is nothing."""
    argv = part.argv
    if not argv:
        return None
    if not argv[0].known or argv[0].loose:
        return Unwrapped(opaque=f"what runs is not known: {argv[0].text}")
    name = part.name
    special = _SPECIAL.get(name)
    if special:
        return special(part)
    if name in SHELLS:
        return shells.shell(part)
    interpreter = CODE_OPTIONS.get(_VERSIONED.sub("", name))
    if interpreter:
        return shells.interpreter(part, *interpreter)
    for wrapper in WRAPPERS.get(name, ()):
        under = wrapper.under
        if tuple(word.text for word in argv[1 : 1 + len(under)]) == under:
            return wrapped(argv, wrapper, 1 + len(under))
    return None


_SPECIAL: dict[str, Callable[[Part], Unwrapped | None]] = {
    "eval": shells.run_eval,
    "source": shells.source,
    ".": shells.source,
    "trap": shells.trap,
    "alias": shells.alias,
    "hash": shells.changes,
    "enable": shells.changes,
    "command": shells.command,
    "env": programs.env,
    "xargs": programs.xargs,
    "find": programs.find,
    "gfind": programs.find,
    "fd": programs.fd,
    "fdfind": programs.fd,
    "rg": programs.rg,
    "su": programs.su,
    "runuser": programs.su,
    "script": programs.typescript,
    "tar": programs.tar,
    "hyperfine": programs.hyperfine,
    "flock": programs.flock,
    "npx": programs.npx,
    "time": programs.time,
    "ssh": programs.ssh,
    "git": git,
    **dict.fromkeys(("awk", "gawk", "mawk", "nawk"), shells.awk),
}
