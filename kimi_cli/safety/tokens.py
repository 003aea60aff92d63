"""Finding access tokens and keys in text by their form, to keep them out of what is passed on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

# (what it is, pattern); a group named "secret" or "bare" is the part to mask, else all of the match
# is. The forms are those the issuers document so that scanners can find them.
# fmt: off
FORMS = (
    ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
     r".{16,}?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_[A-Za-z0-9_]{40,255})\b"),
    ("GitLab token", r"\bgl(?:pat|ptt|dt|rt|cbt|soat|ft)-[A-Za-z0-9_-]{20,}"),
    ("AWS access key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    ("Google key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("Google OAuth token", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("Slack webhook", r"hooks\.slack\.com/services/(?P<secret>[A-Za-z0-9/]{20,})"),
    ("Stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", r"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
    ("Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}\b"),
    ("API key", r"\bsk-(?:[A-Za-z]+-)*[A-Za-z0-9_-]{20,}"),
    ("JSON web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("bearer token", r"(?i:\bauthorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)"
     r"(?P<secret>[^\s'\"\\]{8,})"),
    ("password in a URL", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{0,64}:"
     r"(?P<secret>[^\s/@'\"]{3,256})@"),
    (
        "secret",
        r"(?i:\b[a-z0-9_.-]{0,40}(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token|"
        r"access[_-]?token|private[_-]?key|client[_-]?secret)['\"]?\s*[:=]\s*)"
        r"(?:(?P<quote>['\"])(?P<secret>(?![$<{(\[*])[^\s'\"`\\]{8,})(?P=quote)|"
        # Without quotes it may as well be code: an expression, or a name without a digit.
        r"(?P<bare>(?=[^\s\d]*\d)[A-Za-z0-9_./+=~!@#%^&*-]{8,}+)(?![\[(]))",
    ),
)
# fmt: on


class TokenMask:
    """Replaces what looks like a secret by what it was. ``more`` are regular expressions of the
    user's, ``known`` secrets that are masked wherever they stand."""

    def __init__(self, more: Sequence[str] = (), known: Sequence[str] = ()) -> None:
        forms = [*FORMS, *(("secret", pattern) for pattern in more)]
        self._forms = [(what, re.compile(pattern, re.DOTALL)) for what, pattern in forms]
        self._known = sorted({one for one in known if len(one) >= 8}, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """The text with every secret replaced by ``[masked: WHAT]``."""
        for secret in self._known:
            text = text.replace(secret, "[masked: key]")
        for what, pattern in self._forms:
            text = pattern.sub(partial(_masked, what), text)
        return text


def _masked(what: str, found: re.Match[str]) -> str:
    word = f"[masked: {what}]"
    groups = [name for name in ("secret", "bare") if found.groupdict().get(name)]
    if not groups:
        return word
    if found[groups[0]].startswith("[masked"):
        return found[0]
    begin, end = (place - found.start() for place in found.span(groups[0]))
    return found[0][:begin] + word + found[0][end:]
