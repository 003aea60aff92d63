"""The scripted model server: real HTTP on a loopback port, answers from a script."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from tests.support import endpoints, recorded
from tests.support.endpoints import House, ModelSpec
from tests.support.playback import Player
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error
from tests.support.sse import Flavour, Moment
from tests.support.validate import Problem, Rules, findings, unauthorized
from tests.support.wire import Connection, Gone, Request

Script = Sequence[Reply] | Callable[[int, Recorded], Reply]
_CHAT = "/v1/chat/completions"
_CLOSING = 1.0
_BYTES_A_TOKEN = 4


class ScriptedServer:
    """Answers each POST /v1/chat/completions with the next Reply of the script.

    script: a list (read live, it may grow), or a function of the request's index and record that
    may be called from several threads. strict: refuse what the real API refuses; a refused
    request takes no Reply and is in `rejected`, not in `requests`. keep=False forgets the bodies
    (long benchmarks). on_end hears of each finished request, from the thread that answered it.
    """

    def __init__(
        self,
        script: Script = (),
        *,
        flavour: Flavour = "hosted",
        strict: bool = True,
        api_key: str | None = "sk-test-key",
        models: Sequence[ModelSpec] | None = None,
        native_ids: bool | None = None,
        context_limit: int | None = None,
        port: int = 0,
        keep: bool = True,
        on_end: Callable[[Recorded], None] | None = None,
    ) -> None:
        self.script = script
        self.flavour = flavour
        self.strict = strict
        self.overrides: dict[str, Reply] = {}
        """Other endpoints' answers: {"GET /v1/models": http_error(503)}."""
        self.requests: list[Recorded] = []
        self.rejected: list[Recorded] = []
        self.other_requests: list[Recorded] = []
        self.exhausted = False
        self.script_errors: list[Exception] = []

        listed = endpoints.model_list(flavour, models)
        self._house = House(flavour, listed, context_limit)
        names = tuple(str(entry["id"]) for entry in listed)
        self._rules = Rules(names, api_key, native_ids, context_limit)
        self._wanted_port = port
        self._keep = keep
        self._on_end = on_end
        self._changed = threading.Condition()
        self._served: dict[Connection, threading.Thread] = {}
        self._count = 0
        self._previous = b""
        self._closing = False
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def port(self) -> int:
        if self._listener is None:
            raise RuntimeError("the server is not started")
        return int(self._listener.getsockname()[1])

    def start(self) -> "ScriptedServer":
        """Listen; `with` does it too."""
        self._listener = socket.create_server(("127.0.0.1", self._wanted_port), backlog=512)
        # Whoever connected may be gone by the time of accept().
        self._listener.setblocking(False)
        self._waker, self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="scripted-accept", daemon=True)
        self._acceptor.start()
        return self

    def close(self) -> None:
        """End every connection, stalled ones too, and wait for the threads."""
        if self._listener is None or self._acceptor is None or self._closing:
            return
        self._closing = True
        self._wake.send(b".")
        self._acceptor.join()
        self._listener.close()
        self._wake.close()
        self._waker.close()
        with self._changed:
            served = dict(self._served)
        for connection in served:
            connection.cut()
        deadline = time.monotonic() + _CLOSING
        for thread in served.values():
            thread.join(max(0, deadline - time.monotonic()))

    def __enter__(self) -> "ScriptedServer":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait_until(self, condition: Callable[[], bool], timeout: float = 5.0) -> bool:
        """Wait for a condition on the records; it is looked at when a request comes or ends."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def check(self) -> None:
        """AssertionError if a request was refused, or the script failed or was too short."""
        faults = [f"refused: {problem}" for one in self.rejected for problem in one.problems]
        faults += [f"script failed: {error!r}" for error in self.script_errors]
        faults += ["the script is exhausted"] * self.exhausted
        assert not faults, "; ".join(faults)

    def _accept(self) -> None:
        assert self._listener is not None
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._waker, select.POLLIN)
        while True:
            ready = {number for number, _ in poller.poll()}
            if self._waker.fileno() in ready:
                return
            with contextlib.suppress(OSError):
                accepted = self._listener.accept()[0]
                accepted.setblocking(True)
                connection = Connection(accepted)
                thread = threading.Thread(
                    target=self._serve, args=(connection,), name="scripted-serve", daemon=True
                )
                with self._changed:
                    self._served[connection] = thread
                thread.start()

    def _serve(self, connection: Connection) -> None:
        """Requests of one connection, one after the other."""
        try:
            while (request := connection.read_request()) is not None:
                if not self._answer(connection, request):
                    break
        except Gone:
            pass
        finally:
            connection.close()
            with self._changed:
                del self._served[connection]

    def _answer(self, connection: Connection, request: Request) -> bool:
        path = request.path.partition("?")[0]
        record = Recorded(
            -1,
            request.method,
            path,
            request.headers,
            request.body,
            request.arrived_ns,
            request.received_ns,
        )
        is_chat = f"{request.method} {path}" == f"POST {_CHAT}"
        reply = self._chat(record) if is_chat else self._other(record)
        player = Player(
            connection,
            reply,
            self._moment(record, is_chat),
            lambda status, outcome: self._end(record, status, outcome),
        )
        try:
            keep_alive = player.play()
        except Gone:
            self._end(record, 0, "server closed" if self._closing else "client left")
            raise
        except Exception as error:
            self.script_errors.append(error)
            self._end(record, 0, "failed")
            return False
        finally:
            if self._on_end is not None:
                self._on_end(record)
        return keep_alive and request.keep_alive and request.method != "HEAD"

    def _end(self, record: Recorded, status: int, outcome: str) -> None:
        if record.outcome == "open":
            with self._changed:
                record.answered_ns = time.monotonic_ns()
                record.status = status
                record.outcome = outcome
                self._changed.notify_all()

    def _moment(self, record: Recorded, is_chat: bool) -> Moment:
        body = record.raw if is_chat else b""
        return Moment(
            flavour=self.flavour,
            model=recorded.string_value(body, "model") or "",
            number=record.index,
            stream=is_chat and recorded.has_flag(body, "stream"),
            # Not for hosted, which ignores it: looking for an absent key reads the whole body.
            include_usage=self.flavour != "hosted" and recorded.has_flag(body, "include_usage"),
            prompt_tokens=len(body) // _BYTES_A_TOKEN,
            cached_tokens=record.shared_prefix // _BYTES_A_TOKEN,
            next_call=recorded.next_call_index(body),
        )

    def _chat(self, record: Recorded) -> Reply:
        if self.strict and (found := self._refusals(record)):
            record.problems = [problem.message for problem in found]
            self._note(record, self.rejected)
            return http_error(found[0].status, found[0].type, found[0].message)
        with self._changed:
            previous, self._previous = self._previous, record.raw
            record.index, self._count = self._count, self._count + 1
            self._note(record, self.requests)
        record.shared_prefix = recorded.shared_prefix(previous, record.raw)
        return self._scripted(record)

    def _refusals(self, record: Recorded) -> list[Problem]:
        try:
            body = record.body
        except ValueError as error:
            return [Problem(f"Invalid request: {error}")]
        size = len(record.raw)
        return list(findings(body, self.flavour, record.headers, self._rules, size))

    def _scripted(self, record: Recorded) -> Reply:
        if callable(self.script):
            try:
                return self.script(record.index, record)
            except Exception as error:
                self.script_errors.append(error)
                return http_error(500, "server_error", f"the script failed: {error!r}")
        if record.index < len(self.script):
            return self.script[record.index]
        self.exhausted = True
        words = f"the script is exhausted: it has {len(self.script)} replies"
        # The header tells the openai client not to try again.
        return http_error(500, "server_error", words, {"x-should-retry": "false"})

    def _other(self, record: Recorded) -> Reply:
        self._note(record, self.other_requests)
        override = self.overrides.get(f"{record.method} {record.path}")
        if override is not None:
            return override
        guarded = self.strict and record.path.startswith("/v1/")
        if guarded and (refused := unauthorized(record.headers, self._rules)):
            return http_error(refused.status, refused.type, refused.message)
        return endpoints.answer(record.method, record.path, record.raw, self._house)

    def _note(self, record: Recorded, records: list[Recorded]) -> None:
        with self._changed:
            if self._keep:
                records.append(record)
            self._changed.notify_all()
