"""What is known of programs: which only read, and with which options not; which use the network.

A list of what is known to be harmless, not of what is known to be dangerous: a program that isn't
here writes. From the manual pages of coreutils, findutils, grep, ripgrep, fd, procps, util-linux,
git, sed, gawk and jq.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reader:
    """A program that only reads. ``bad`` are letters and long names of options with which it does
    more; ``most`` is how many words besides options it may have, since one more is an output."""

    bad: str = ""
    most: int | None = None


STANDARD_FOLDERS = frozenset(
    {
        *("/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin", "/usr/local/sbin"),
        "/opt/homebrew/bin",
    }
)

READERS: dict[str, Reader] = {
    **dict.fromkeys(
        (
            *("cat", "tac", "nl", "head", "tail", "wc", "cut", "paste", "fold", "fmt", "expand"),
            *("unexpand", "tr", "rev", "column", "comm", "join", "cmp", "diff", "tsort", "pr"),
            *("echo", "true", "false", ":", "pwd", "basename", "dirname", "realpath", "readlink"),
            *("seq", "sleep", "yes", "expr", "factor", "numfmt", "ls", "dir", "vdir", "stat", "du"),
            *("df", "md5sum", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum"),
            *("b2sum", "cksum", "sum", "od", "hexdump", "strings", "base32", "size", "jq", "which"),
            *("whereis", "whoami", "id", "groups", "uname", "uptime", "nproc", "arch", "free"),
            *("ps", "pgrep", "pidof", "printenv", "locale", "getconf", "tty", "lscpu", "lsblk"),
            *("grep", "egrep", "fgrep", "cal", "who", "w", "vmstat", "pathchk"),
            *("cd", "pushd", "popd", "dirs", "exit", "return", "break", "continue", "shift"),
            *("times", "type", "umask", "ulimit"),
        ),
        Reader(),
    ),
    "wait": Reader("p"),
    "jobs": Reader("x"),
    "sort": Reader("o output compress-program T temporary-directory"),
    "shuf": Reader("o output"),
    "base64": Reader("o output"),
    "iconv": Reader("o output"),
    "tree": Reader("o output R"),
    "file": Reader("C compile z uncompress Z uncompress-noreport"),
    "uniq": Reader("", 1),
    "xxd": Reader("r revert", 1),
    "rg": Reader("pre hostname-bin z search-zip"),
    "fd": Reader("x exec X exec-batch l list-details"),
    "fdfind": Reader("x exec X exec-batch l list-details"),
    "find": Reader("delete fprint fprint0 fprintf fls exec execdir ok okdir"),
    "hostname": Reader("F file b boot i ip-address I y", 0),
    "zcat": Reader("S suffix"),
}

VERSIONED = frozenset(
    {
        *("python", "python3", "node", "gcc", "g++", "cc", "clang", "clang++", "make", "cmake"),
        *("git", "bash", "perl", "ruby", "jq", "rg", "fd", "sed", "awk", "gawk", "tar", "find"),
    }
)
"""Programs of which ``--version`` alone is known to load nothing of the folder it runs in."""

_DIFF = "output ext-diff show-signature"
GIT_READERS: dict[str, Reader] = {
    **dict.fromkeys(
        ("log", "show", "diff", "whatchanged", "shortlog", "range-diff"), Reader(_DIFF)
    ),
    **dict.fromkeys(("diff-tree", "diff-index", "diff-files", "rev-list"), Reader(_DIFF)),
    **dict.fromkeys(
        (
            *("status", "blame", "annotate", "rev-parse", "ls-files", "ls-tree", "describe"),
            *("name-rev", "merge-base", "for-each-ref", "show-ref", "cherry", "count-objects"),
            *("check-ignore", "check-attr", "var", "version", "show-branch"),
        ),
        Reader(),
    ),
    "cat-file": Reader("filters textconv"),
    "grep": Reader("O open-files-in-pager ext-grep"),
    "symbolic-ref": Reader("d delete m", 1),
}

GIT_LISTS: dict[str, str] = {
    "branch": "a r v vv all remotes verbose show-current list contains no-contains merged "
    "no-merged points-at sort format color no-color column no-column i ignore-case",
    "tag": "n list l contains no-contains merged no-merged points-at sort format color no-color "
    "column no-column i ignore-case",
    "remote": "v verbose",
    "config": "get get-all get-regexp list l show-origin show-scope name-only local global system "
    "worktree z null type bool int path includes no-includes default",
}
"""Subcommands that read with these options alone."""

GIT_LISTING: dict[str, frozenset[str]] = {
    "branch": frozenset({"--list", "--contains", "--no-contains", "--merged", "--no-merged"}),
    "tag": frozenset({"--list", "-l", "--contains", "--no-contains", "--merged", "--no-merged"}),
    "remote": frozenset(),
    "config": frozenset({"--get", "--get-all", "--get-regexp"}),
}
"""With one of these their other words are patterns or names to look up."""

GIT_SECOND: dict[str, frozenset[str]] = {
    "stash": frozenset({"list", "show"}),
    "worktree": frozenset({"list"}),
    "reflog": frozenset({"", "show"}),
    "remote": frozenset({"get-url"}),
    "submodule": frozenset({"status"}),
}

SAFE_TO_EXPORT = re.compile(
    r"LC_[A-Z]+|LANG|LANGUAGE|TZ|TERM|NO_COLOR|CLICOLOR(_FORCE)?|FORCE_COLOR|COLUMNS|LINES"
    r"|GIT_OPTIONAL_LOCKS"
)
PLAIN_VALUE = re.compile(r"[\w.@+-]*")
CHANGES_PROGRAMS = re.compile(
    r"PATH|IFS|ENV|HOME|SHELL|VISUAL|BROWSER|CDPATH|TMPDIR|ZDOTDIR|FPATH|PS[0-4]|PROMPT_COMMAND"
    r"|POSIXLY_CORRECT|MAKEFLAGS|GNUMAKEFLAGS|GCONV_PATH|LOCPATH|NLSPATH|HISTFILE|EXECIGNORE"
    r"|SHELLOPTS|TIMEFORMAT|GLOBIGNORE|OPTIND"
    r"|(LD|DYLD|GIT|XDG|GLIBC|MALLOC|SSH|TAR|RSYNC|CURL|RIPGREP|GREP|LESS|BASH|PYTHON|NODE|PERL"
    r"|RUBY|TERMINFO|TEXTDOMAIN|DEBUGINFOD|KIMI|AWK|JQ|FD|NPM|PIP|CARGO|RUST|JAVA|GO|LC)_?\w*"
    r"|\w*(PAGER|EDITOR|_OPTIONS|OPTS|_PROXY|_proxy|ASKPASS)"
)
"""Variables that decide which program runs, or what a program that reads does."""

NETWORK = frozenset(
    {
        *("curl", "wget", "aria2c", "http", "https", "xh", "ftp", "sftp", "ssh", "scp", "mosh"),
        *("telnet", "nc", "ncat", "netcat", "socat", "ping", "ping6", "dig", "host", "nslookup"),
        *("traceroute", "tracepath", "whois", "gh", "hub", "glab", "docker", "podman", "nerdctl"),
        *("docker-compose", "kubectl", "helm", "aws", "gcloud", "gsutil", "az", "terraform"),
        *("apt", "apt-get", "aptitude", "dnf", "yum", "zypper", "pacman", "apk", "brew", "snap"),
        *("flatpak", "npx", "bunx", "uvx", "pipx", "mail", "sendmail", "flyctl", "vercel"),
        *("netlify", "heroku", "wrangler", "huggingface-cli", "hf", "openssl", "yt-dlp", "lynx"),
        *("rclone", "s3cmd", "doctl", "ansible", "ansible-playbook", "adb", "mosquitto_pub"),
    }
)

_NPM = "install i ci add publish update up audit view info outdated login search exec create init"
NETWORK_UNDER: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "git": "push pull fetch clone ls-remote send-email svn p4 lfs request-pull archive",
        "pip": "install download index search wheel",
        "npm": f"{_NPM} ping whoami deprecate dist-tag owner access token unpublish",
        "pnpm": f"{_NPM} dlx",
        "yarn": f"{_NPM} dlx npm",
        "bun": "install i add update publish x create",
        "uv": "add sync lock pip tool publish python run",
        "poetry": "install add update lock publish",
        "pdm": "install add update lock publish",
        "pipenv": "install update sync lock",
        "conda": "install update create search",
        "mamba": "install update create search",
        "cargo": "install publish search fetch update add login owner yank",
        "go": "get install",
        "gem": "install push update fetch search",
        "bundle": "install update",
        "composer": "install update require create-project",
        "rustup": "update install toolchain target component self",
        "nix": "build develop run shell flake profile",
    }.items()
}
NETWORK_SECOND = frozenset(
    {
        *(("git", "remote", "update"), ("git", "remote", "show"), ("git", "remote", "prune")),
        *(("git", "submodule", "update"), ("git", "submodule", "add"), ("go", "mod", "download")),
        *(("go", "mod", "tidy"), ("python", "-m", "pip")),
    }
)
