"""Programs that run other programs, and how their own options are told from the wrapped words.

The options are those of the manual pages of sudo, doas, coreutils, util-linux, findutils, procps,
strace and GNU parallel, and of each tool's ``--help``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wrapper:
    """``values`` are the options that take a value in the next word, ``flags`` those that take
    none: single letters, and long names in full. ``skip`` words follow before the command.
    ``transparent`` says that it does nothing by itself; ``assigns`` that NAME=VALUE may come
    before the command; ``more`` that it adds words; ``joins`` that the words make one shell
    command; ``under`` is the subcommand that wraps, where only that does."""

    values: str = ""
    flags: str = ""
    skip: int = 0
    transparent: bool = False
    assigns: bool = False
    more: bool = False
    joins: bool = False
    under: tuple[str, ...] = ()


_UV = "with with-editable with-requirements p python extra group env-file directory project index"
_STRACE = "o e p s P S a E u O b X"

WRAPPERS: dict[str, tuple[Wrapper, ...]] = {
    "sudo": (
        Wrapper(
            "u user g group h host p prompt C close-from r role t type T command-timeout "
            "U other-user D chdir R chroot",
            "A askpass b background B bell E preserve-env H set-home k reset-timestamp "
            "n non-interactive P preserve-groups S stdin",
            assigns=True,
        ),
    ),
    "doas": (Wrapper("u C", "n L"),),
    "pkexec": (Wrapper("user", "disable-internal-agent keep-cwd"),),
    "nice": (Wrapper("n adjustment", "0 1 2 3 4 5 6 7 8 9", transparent=True),),
    "ionice": (Wrapper("c class n classdata P pgid u uid", "t ignore", transparent=True),),
    "chrt": (Wrapper("T sched-runtime P sched-period D sched-deadline", "b d f i o r R v", 1),),
    "taskset": (Wrapper("", "a c all-tasks cpu-list", 1, transparent=True),),
    "nohup": (Wrapper(),),
    "setpriv": (
        Wrapper(
            "ambient-caps inh-caps bounding-set ruid euid rgid egid reuid regid groups securebits "
            "pdeathsig selinux-label apparmor-profile landlock-access landlock-rule ptracer "
            "seccomp-filter",
            "clear-groups keep-groups init-groups no-new-privs nnp reset-env",
        ),
    ),
    "setsid": (Wrapper("", "c f w ctty fork wait"),),
    "timeout": (
        Wrapper(
            "k kill-after s signal", "f foreground p preserve-status v verbose", 1, transparent=True
        ),
    ),
    "stdbuf": (Wrapper("i input o output e error", transparent=True),),
    "time": (Wrapper("f format", "p portability v verbose q quiet", transparent=True),),
    "command": (Wrapper("", "p", transparent=True),),
    "builtin": (Wrapper(transparent=True),),
    "exec": (Wrapper("a", "c l", transparent=True),),
    "coproc": (Wrapper(transparent=True),),
    "busybox": (Wrapper(),),
    "toybox": (Wrapper(),),
    "chroot": (Wrapper("groups userspec", "skip-chdir", 1),),
    "unshare": (Wrapper("S setuid G setgid R root w wd", "f r m n p u i U C T c fork"),),
    "flock": (Wrapper("w timeout wait E conflict-exit-code c command", "s x e n u o F v", 1),),
    "strace": (Wrapper(_STRACE, "c C d f F h i k q r t T v V w x y"),),
    "ltrace": (Wrapper("a A e F l n o p s u w x", "b c C f i r S t T"),),
    "watch": (
        Wrapper(
            "n interval q equexit s shotsdir",
            "b beep c color C no-color d differences e errexit g chgexit p precise r no-rerun "
            "t no-title w no-wrap x exec",
            joins=True,
        ),
    ),
    "xargs": (
        Wrapper(
            "a arg-file d delimiter E n max-args P max-procs s max-chars L max-lines "
            "I process-slot-var",
            "0 null o open-tty p interactive r no-run-if-empty t verbose x exit e i l eof "
            "replace show-limits",
            transparent=True,
            more=True,
        ),
    ),
    "parallel": (
        Wrapper(
            "a arg-file j jobs P max-procs n max-args N max-replace-args L I d delimiter C colsep "
            "S sshlogin S sshloginfile joblog results timeout retries delay tmpdir halt tagstring",
            "0 null k keep-order u ungroup t verbose X m q quote bar eta progress dry-run tag "
            "pipe line-buffer lb will-cite no-notice citation",
            more=True,
            joins=True,
        ),
    ),
    "entr": (Wrapper("", "a c d n p r s x z"),),
    "caffeinate": (Wrapper("t w", "d i m s u", transparent=True),),
    "xvfb-run": (Wrapper("e error-file f auth-file n server-num s server-args w wait", "a l"),),
    "npx": (Wrapper("p package", "y yes no q quiet no-install"),),
    "bunx": (Wrapper("p package", "bun"),),
    "uvx": (Wrapper(f"from {_UV}", "q quiet isolated offline"),),
    "pipx": (Wrapper("spec python pip-args", "verbose no-cache", under=("run",)),),
    "uv": (
        Wrapper(
            f"{_UV} m module",
            "q quiet v no-sync frozen locked isolated no-project offline active dev no-dev "
            "all-extras",
            under=("run",),
        ),
        Wrapper(f"from {_UV}", "q quiet isolated offline", under=("tool", "run")),
    ),
    "poetry": (Wrapper(under=("run",)),),
    "pipenv": (Wrapper(under=("run",)),),
    "pdm": (Wrapper("p project", "s site-packages", under=("run",)),),
    "rye": (Wrapper(under=("run",)),),
    "hatch": (Wrapper(under=("run",)),),
    "bundle": (Wrapper("", "keep-file-descriptors", under=("exec",)),),
    "npm": (
        Wrapper("p package w workspace", "y yes no", under=("exec",)),
        Wrapper("p package w workspace", "y yes no", under=("x",)),
    ),
    "pnpm": (
        Wrapper("", "r recursive parallel", under=("exec",)),
        Wrapper("package", "", under=("dlx",)),
    ),
    "yarn": (Wrapper("", "", under=("exec",)), Wrapper("p package", "q quiet", under=("dlx",))),
    "conda": (Wrapper("n name p prefix cwd", "v no-capture-output", under=("run",)),),
    "mamba": (Wrapper("n name p prefix cwd", "v no-capture-output", under=("run",)),),
    "direnv": (Wrapper("", "", 1, under=("exec",)),),
    "doppler": (Wrapper("p project c config", "", under=("run",)),),
    "systemd-run": (
        Wrapper(
            "u unit p property E setenv H host M machine slice uid gid nice working-directory",
            "t pty P pipe r q quiet d user scope wait collect remain-after-exit same-dir",
        ),
    ),
}

SHELLS = frozenset({"bash", "sh", "dash", "ash", "zsh", "ksh", "mksh", "yash", "rbash"})
"""Shells whose language is read as bash's."""

CODE_OPTIONS: dict[str, tuple[str, str]] = {
    "python": ("c", "WXmQ"),
    "pypy": ("c", "WXmQ"),
    "node": ("ep", "rC"),
    "nodejs": ("ep", "rC"),
    "bun": ("ep", "r"),
    "perl": ("eE", ""),
    "ruby": ("e", "rICKEWx"),
    "php": ("rBRE", "dczFtS"),
    "lua": ("e", "l"),
    "luajit": ("e", "lj"),
    "osascript": ("e", "ls"),
    "Rscript": ("e", ""),
    "julia": ("eE", "LpJCHt"),
    "fish": ("c", "CfdoP"),
    "pwsh": ("c", ""),
    "tclsh": ("", ""),
    "guile": ("c", "lLe"),
    "expect": ("c", "f"),
    "gdb": ("", "x"),
    "sqlite3": ("", ""),
}
"""Interpreters: the letters whose value is program text, and letters with any other value."""

CODE_LONG = frozenset({"--eval", "--print", "--command", "-Command", "-EncodedCommand"})

GIT_VALUES = frozenset(
    {
        *("-C", "-c", "--git-dir", "--work-tree", "--namespace", "--super-prefix"),
        *("--config-env", "--attr-source", "--exec-path"),
    }
)
"""git's options before the subcommand that take the next word."""
