"""What the store can raise. None of it comes from the session's content: that is never fatal."""

from __future__ import annotations


class StoreError(Exception):
    """The session can't be written or read: no space, no permission, no folder. ``errno`` is the
    system's, the message is for people."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    @classmethod
    def of(cls, action: str, error: OSError) -> StoreError:
        return cls(f"{action}: {error.strerror or error}", error.errno)


class SessionError(Exception):
    """A session that can't be used as asked; the message says what can be done instead."""


class SessionNotFound(SessionError):
    pass


class AmbiguousSession(SessionError):
    pass


class SessionBusy(SessionError):
    """Another process has the session open."""


class SessionTooNew(SessionError):
    """A newer version of the program wrote the session; it was left untouched."""
