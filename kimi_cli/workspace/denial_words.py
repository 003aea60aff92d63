"""The words in which programs say what the sandbox makes them say, as observed."""

from __future__ import annotations

import re

NETWORK = re.compile(
    r"""
    Could\ not\ resolve\ (host|proxy) | Temporary\ failure\ (in\ name\ resolution|resolving)
    | Name\ or\ service\ not\ known | Name\ does\ not\ resolve | unable\ to\ resolve\ host
    | nodename\ nor\ servname\ provided | No\ address\ associated\ with\ hostname
    | could\ not\ translate\ host\ name | Could\ not\ resolve\ hostname | Unknown\ host\b
    | UnknownHostException | getaddrinfo\ (EAI_AGAIN|ENOTFOUND|failed) | \bEAI_AGAIN\b
    | \bENOTFOUND\b.*\b(registry|getaddrinfo|https?:)
    | Network\ is\ unreachable | network\ is\ unreachable | \bENETUNREACH\b | No\ route\ to\ host
    | dial\ (tcp|udp)\b.*(unreachable|no\ such\ host|not\ permitted|server\ misbehaving)
    | lookup\ \S+:?.*(no\ such\ host|server\ misbehaving|unreachable|temporary\ failure)
    | Failed\ to\ connect\ to\ .*(Couldn't\ connect\ to\ server|unreachable)
    | Failed\ to\ resolve\ '|NameResolutionError | dns\ error: | failed\ to\ lookup\ address
    | Failed\ to\ fetch\ https?: | Could\ not\ connect\ to\ (?!.*(localhost|127\.))\S+:\d+
    | APIConnectionError | fetch\ failed
    | offline\ mode\ \(--offline\) | could\ not\ be\ found\ in\ registry\ index
    | could\ not\ find\ `[^`]+`\ in\ registry\ ` | config\.json\ not\ found\ in\ registry
    | attempting\ to\ make\ an\ HTTP\ request,\ but
    | network\ (was|is|connectivity\ is)\ disabled | Network\ disabled,\ request\ canceled
    | outgoing\ traffic\ has\ been\ disabled | offline\ mode\ is\ enabled | HF_HUB_OFFLINE
    | ERR_INTERNET_DISCONNECTED | ERR_NAME_NOT_RESOLVED | ERR_ADDRESS_UNREACHABLE
    | Error\ when\ performing\ the\ request\ to\ https?:
    | not\ been\ downloaded\ from\ it\ before
    | socket:\ (Operation\ not\ permitted|Permission\ denied)
    | could\ not\ create\ socket
    """,
    re.VERBOSE,
)
"""A connection out that failed for want of a network."""

NOT_A_HOST = re.compile(
    r"\blocalhost\b|\b127\.\d+\.\d+\.\d+|\[?::1\]?|[\w-]\.(invalid|test|localhost|example)(?!\.?\w|-)",
    re.IGNORECASE,
)
"""This machine itself, and names that never exist (RFC 6761)."""

REFUSED = re.compile(
    r"Connection refused|ECONNREFUSED|Couldn't connect to server|connection refused|was refused"
)

WRITE = re.compile(
    r"Read-only file system|ReadOnlyFilesystem|read-only file system|\bEROFS\b"
    r"|Permission denied|permission denied|\bEACCES\b"
    r"|Operation not permitted|operation not permitted|\bEPERM\b"
    r"|Device or resource busy|\bEBUSY\b|Invalid cross-device link|\bEXDEV\b"
)
"""What a refused change says; most name the path."""

WEAK = re.compile(
    r"unable to open database|readonly database|(is not|isn't|not) write?able"
    r"|could not create temp file|Could not create local repository|unable to access the dpkg"
    r"|Unable to create|could not create|Could not create|cannot create|can't create"
    r"|error writing to the directory"
)
"""What counts only with a path beside it."""

SOCKET = re.compile(
    r"socket|unix:|docker daemon|Docker daemon|failed to connect to bus|Failed to connect to bus",
)

HIDDEN = re.compile(
    r"No such file or directory|Permission denied|ENOENT|EACCES|not found|does not exist"
    r"|cannot open|Can't open|can't open|FileNotFoundException|NoSuchFile"
)

CREDENTIALS = (
    (
        re.compile(r"Host key verification failed|Permission denied \(publickey"),
        (".ssh",),
    ),
    (
        re.compile(r"could not read (Username|Password) for 'https?:|Authentication failed for '"),
        (".git-credentials", ".config/git/credentials", ".config/gh", ".netrc"),
    ),
    (re.compile(r"gh auth login"), (".config/gh",)),
    (re.compile(r"glab auth login"), (".config/glab-cli",)),
    (re.compile(r"Unable to locate credentials|NoCredentialsError"), (".aws",)),
    (re.compile(r"az login"), (".azure",)),
    (re.compile(r"gcloud auth login|Application Default Credentials|default credentials"),
     (".config/gcloud",)),
    (re.compile(r"connection to the server localhost:8080 was refused"),
     (".kube",)),
    (re.compile(r"gpg failed to sign the data|No secret key"), (".gnupg",)),
    (re.compile(r"npm error code (ENEEDAUTH|E401|E403)"), (".npmrc",)),
    (re.compile(r"no basic auth credentials|pull access denied|unauthorized: authentication"),
     (".docker/config.json",)),
    (re.compile(r"no token found, please run `cargo login`"),
     (".cargo/credentials.toml", ".cargo/credentials")),
    (re.compile(r"InvalidDistribution|HTTPError: 403 .*pypi|Username for .*pypi"), (".pypirc",)),
    (re.compile(r"fe_sendauth: no password supplied"), (".pgpass",)),
)  # fmt: skip
"""Complaints of missing keys, and the places below the home folder they are kept in."""

POWERS = (
    (
        re.compile(r'no new privileges|effective uid is not 0, is .*sudo on a file system'),
        "commands can't gain rights by sudo",
    ),
    (
        re.compile(r"^su: (cannot set groups|must be run from|Authentication failure|cannot set)"),
        "commands can't become another user",
    ),
    (
        re.compile(r"unshare(: unshare)? failed|Creating new namespace failed|No usable sandbox!"
                   r"|zygote.*(namespace|sandbox)|newuidmap.*failed|clone.*user namespace"),
        "commands can't make namespaces of their own",
    ),
    (
        re.compile(r"^(u?mount|fusermount3?): .*(denied|must be superuser|not permitted)"),
        "commands can't mount",
    ),
)  # fmt: skip
"""What no narrower grant than leaving the sandbox allows."""

SILENT = (
    (re.compile(r"\bcurl\b"), (6, 7)),
    (re.compile(r"\bwget\b"), (4,)),
)
"""Programs and their exit statuses for a failed connection: curl(1), wget(1)."""
