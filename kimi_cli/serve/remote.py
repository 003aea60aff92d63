"""Running things on another computer through the user's own ssh.

What runs there goes through ssh's stdin as a script for a POSIX shell, so that neither arguments
nor secrets show in a list of processes, and whatever shell the user has there needs to understand
but one simple line.
"""

from __future__ import annotations

import os
import re
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from shlex import quote
from shutil import which

from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.sweep import MARK

NODE_MARK = "KIMI_SERVER_NODE"
"""The variable that tells what was started from elsewhere."""
GRACE_SECONDS = 40
"""What vLLM has to end by itself, with the requests in flight."""
CONNECT_SECONDS = 10
# A value with any other character could be an option of ssh, or mean something to a shell.
_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.+-]*@)?[A-Za-z0-9_:][\w.:-]*(?:%[\w.-]+)?", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class BadHost(ValueError):
    """No name or address of a computer."""


class NoSsh(FileNotFoundError):
    """There is no ssh on PATH."""


def check_host(host: str) -> str:
    """The host as given: a name, an address, or an alias of ssh's configuration, with or without
    ``user@``. Raises BadHost for what could be taken for anything else."""
    name = host.rpartition("@")[2]
    if not _HOST.fullmatch(host) or len(host) > 255 or (":" in name and not _is_v6(name)):
        raise BadHost(f"{host!r} is no host name: write gpu1, user@gpu1 or 10.0.0.7")
    return host


def is_here(host: str) -> bool:
    """Whether the host is this computer: by a name of its own or one of its addresses."""
    name, own = host.lower().rstrip("."), socket.gethostname().lower()
    if "@" in name:
        return False
    if name in ("", "localhost", own, own.split(".")[0]):
        return True
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        socket.inet_pton(family, name)
    except OSError:
        return "." in name and name == socket.getfqdn().lower()
    return _is_bindable(name, family)


def ssh(host: str, size: int, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The arguments that run on a host the script of `size` bytes that then comes through stdin;
    what follows it there is the script's own stdin. Raises BadHost, NoSsh.

    dd reads one byte at a time since a shell would read more than its script.
    """
    return (
        *_program(env),
        *("--", check_host(host)),
        f"exec sh -c 'eval \"$(dd bs=1 count={size} 2>/dev/null)\"'",
    )


def _program(env: Mapping[str, str] | None) -> tuple[str, ...]:
    found = which("ssh", path=(os.environ if env is None else env).get("PATH"))
    if found is None:
        raise NoSsh("ssh is not there")
    return (
        *(os.path.abspath(found), "-T", "-o", "BatchMode=yes"),
        *("-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "ServerAliveInterval=15"),
        # A connection of its own: it must not end with another session's, nor end others.
        *("-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ClearAllForwardings=yes"),
    )


def ssh_argv(
    command: NodeCommand,
    server_id: str,
    key: str | None,
    env: Mapping[str, str] | None = None,
    *,
    grace: int = GRACE_SECONDS,
) -> tuple[tuple[str, ...], bytes]:
    """What runs a node's command on its host: the arguments to start here, and what to write to
    that process's stdin.

    The stdin must be kept open. Where it is closed, or the connection ends, the far end ends the
    server: it tells vLLM, waits, and kills what is left. Output comes back, and so does the exit
    code (255 is ssh's own). The environment has the command's variables, the server's mark, and
    `key` as VLLM_API_KEY. `env` is where ssh is looked for; `grace` how many seconds vLLM has to
    end by itself. Raises BadHost, NoSsh.
    """
    variables = {one.name: one.value for one in command.environment if not one.secret}
    if key:
        variables["VLLM_API_KEY"] = key
    variables |= {MARK: check_id(server_id), NODE_MARK: command.host, "PYTHONUNBUFFERED": "1"}
    exports = "\n".join(f"export {name}={quote(value)}" for name, value in variables.items())
    words = " ".join(quote(word) for word in command.argv)
    text = _RUN.format(exports=exports, words=words, session=_SESSION, grace=grace)
    script = text.encode()
    return ssh(command.host, len(script), env), script


def sweep_argv(host: str, server_id: str, env: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What ends on a host all that `ssh_argv` started there for a server and that still runs: TERM
    first, KILL after some seconds. It needs no stdin. Raises BadHost, NoSsh."""
    text = _SWEEP.format(
        session=_SESSION, mark=f"{MARK}={check_id(server_id)}", node=f"{NODE_MARK}={host}"
    )
    packed = b64encode(text.encode()).decode()
    line = f"exec sh -c 'eval \"$(echo {packed} | base64 -d)\"'"
    return (*_program(env), "--", check_host(host), line)


def check_id(server_id: str) -> str:
    """The server's id as given. Raises ValueError for what is none."""
    if not _ID.fullmatch(server_id):
        raise ValueError(f"{server_id!r} is no id of a server")
    return server_id


def ssh_trouble(host: str, said: str) -> tuple[str, str, str]:
    """What ssh's own failure means: a short kind, words, and what to do. `said` is what it printed
    (the messages are those of OpenSSH's ssh.c, sshconnect.c and sshconnect2.c)."""
    low = said.lower()
    if "host key verification failed" in low or "remote host identification has changed" in low:
        if "has changed" in low:
            return (
                "host-key",
                f"{host} shows another key than the one ssh knows it by",
                "find out why; if it was set up anew, remove the old key: ssh-keygen -R HOST",
            )
        return "host-key", f"ssh does not know {host}'s key", f"connect once by hand: ssh {host}"
    if "permission denied" in low or "too many authentication failures" in low:
        return (
            "login",
            f"{host} lets ssh in with no key of yours",
            f"set up a login without a password: ssh-copy-id {host}",
        )
    if "could not resolve" in low:
        return "unknown", f"no computer is called {host}", "check the name, or give its address"
    if "connection refused" in low:
        return (
            "refused",
            f"{host} refuses ssh",
            "start sshd there, or set its port in ssh's config",
        )
    if "timed out" in low or "no route to host" in low or "unreachable" in low:
        return "unreachable", f"{host} does not answer", "check that it is on, and its network"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return "ssh", f"{host}: {lines[-1] if lines else 'ssh failed'}", f"try it by hand: ssh {host}"


def address_of(host: str, env: Mapping[str, str]) -> str:
    """The numeric address by which this computer reaches a host, "" where it can't be told; what
    ssh's configuration says of the name counts."""
    import subprocess

    try:
        said = subprocess.run(
            (_program(env)[0], "-G", "--", check_host(host)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CONNECT_SECONDS,
            env=dict(env),
            text=True,
            errors="replace",
        ).stdout
        rows = (line.partition(" ") for line in said.splitlines())
        name = next((value for word, _, value in rows if word == "hostname"), host)
        found: Sequence[tuple[object, ...]] = socket.getaddrinfo(name, None)
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return ""
    address = found[0][4] if found else ()
    return str(address[0]) if isinstance(address, tuple) and address else ""


def own_address(peer: str) -> str:
    """This computer's address on the way to another one's, "" where there is no way."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def _is_v6(name: str) -> bool:
    try:
        return bool(socket.inet_pton(socket.AF_INET6, name.partition("%")[0]))
    except OSError:
        return False


def _is_bindable(address: str, family: socket.AddressFamily) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


# --- what runs at the far end, in the language of POSIX sh ---

# signal_session NAME SESSION: its processes have field 6 of /proc/PID/stat in common; the name in
# parentheses before may hold blanks. Status 1 when it has none left. vLLM's processes write their
# titles over their environment, so that their session is what they are known by.
_SESSION = """signal_session() {
  none=1
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    pid=${line%% *} line=${line##*) }
    state=${line%% *} line=${line#* * * }
    [ "${line%% *}" = "$2" ] && [ "$state" != Z ] || continue
    none=0
    kill -s "$1" "$pid" 2>/dev/null
  done
  return $none
}
end_session() {
  for round in 1 2 3 4 5; do
    signal_session "$2" "$1" || return 0
    sleep 1
  done
  signal_session KILL "$1"
}"""

# The shell that leads the session keeps the mark in its environment.
_RUN = """{exports}
set -- {words}
case $1 in /*) export PATH="${{1%/*}}:$PATH";; esac
{session}
command -v setsid >/dev/null || {{ echo "setsid is not there" >&2; exit 127; }}
tell_child() {{
  for stat in /proc/[0-9]*/stat; do
    {{ read -r line <"$stat"; }} 2>/dev/null || continue
    pid=${{line%% *}} line=${{line##*) }}
    line=${{line#* }}
    [ "${{line%% *}}" = "$leader" ] && kill -s TERM "$pid" && told=1
  done
}}
exec 3<&0 </dev/null
setsid sh -c 'trap : TERM; "$@" & child=$!
wait "$child"; code=$?
while kill -s 0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
exit "$code"' sh "$@" 3<&- &
leader=$!
{{
  while read -r line; do :; done <&3
  count=0 told=
  while [ "$count" -lt {grace} ] && [ -d "/proc/$leader" ]; do
    [ -n "$told" ] || tell_child
    sleep 1
    count=$((count + 1))
  done
  end_session "$leader" TERM
}} &
watcher=$!
wait "$leader"
code=$?
kill "$watcher" 2>/dev/null
end_session "$leader" TERM
exit "$code"
"""

_SWEEP = """{session}
sessions=
marked=$(grep -lszxF "{mark}" /dev/null /proc/[0-9]*/environ)
for place in $(grep -lszxF "{node}" /dev/null $marked); do
  {{ read -r line <"${{place%/environ}}/stat"; }} 2>/dev/null || continue
  line=${{line##*) }} line=${{line#* * * }}
  case " $sessions " in *" ${{line%% *}} "*) ;; *) sessions="$sessions ${{line%% *}}";; esac
done
for one in $sessions; do end_session "$one" TERM; done
exit 0
"""
