"""Answers a request that carries an `idempotency-key` once, however often it is sent.

As Stripe does it and the IETF draft "The Idempotency-Key HTTP Header Field" describes it: the same key of the same caller
with the same request gets the reply of the first one, byte for byte; with another request it is refused (422); while the
first is being answered, the others wait. The call of such a request is no longer its client's: it goes on when that hangs
up, so that the next request finds a reply. Only a complete answer is kept. After a failure the next request is a new
attempt, since nothing was answered.

The replies stand in the ledger, for every process of this machine; all that waits for the disk happens in one thread. A
request without the header never comes here. Which answer is complete says the handler, `app.py`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Final, TypeVar

from msgspec import msgpack

from penstock.call import Who
from penstock.errors import SHUTDOWN, CallerError, ClientClosed, DeadlineExceeded, InvalidRequest, PenstockError
from penstock.ledger.idempotency import BODY_BYTES, RENEW_S, Found, KeptReply, Replies
from penstock.outbox import Outbox
from penstock.server.request import Header, Request
from penstock.server.responder import Responder

T = TypeVar("T")
log = logging.getLogger("penstock")

HEADER: Final = b"idempotency-key"
KEY_CHARACTERS: Final = 255
POLL_S: Final = 0.05
"""How often is asked whether another process has its reply."""
ENDING_S: Final = 1.0
"""How long a call that is being shut down may take for its last word."""

_REPLAYED: Final = (b"idempotent-replayed", b"true")
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_LARGE: Final = 256 << 10  # a longer body is hashed in a thread


class IdempotencyMismatch(CallerError):
    """The key was used for another request before."""

    code = "idempotency_key_reused"
    default_status = 422


class ReplyNotKept(CallerError):
    """The request was answered before, with a reply too long to be kept."""

    code = "idempotency_reply_not_kept"
    default_status = 409


class Recorder:
    """A `Responder` that keeps what passes, and goes on when the client is gone."""

    __slots__ = ("_attached", "_body", "_headers", "_length", "_responder", "_status", "finished", "left", "started")

    def __init__(self, responder: Responder) -> None:
        self.started = False
        self.finished = False
        self.left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the client reads no more."""
        self._responder = responder
        self._attached = True
        self._status = 0
        self._headers: tuple[Header, ...] = ()
        self._body: list[bytes] = []
        self._length = 0

    @property
    def congested(self) -> bool:
        """Whether the client reads more slowly than we write."""
        return self._attached and self._responder.congested

    @property
    def attached(self) -> bool:
        """Whether the client is still there."""
        return self._attached

    def leave(self) -> None:
        """Write nothing more to the client."""
        self._attached = False
        if not self.left.done():
            self.left.set_result(None)

    def send(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send a whole reply."""
        self.started = True
        self._status, self._headers = status, tuple(headers)
        if self._attached:
            self._responder.send(status, headers, body)
        self._add(body)
        self.finished = True

    def start(self, status: int, headers: Sequence[Header], *, soon: bool = True) -> None:
        """Begin a reply in pieces."""
        self.started = True
        self._status, self._headers = status, tuple(headers)
        if self._attached:
            self._responder.start(status, headers, soon=soon)

    def write(self, data: bytes) -> bool:
        """Send one piece of the body; return whether the client reads more slowly than we write."""
        if self._attached:
            self._responder.write(data)
        self._add(data)
        return self.congested

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        if self._attached:
            self._responder.finish(data)
        self._add(data)
        self.finished = True

    def abort(self) -> None:
        """Tear the reply."""
        if self._attached:
            self._responder.abort()

    async def drained(self) -> None:
        """Wait for the client to read; one that does not is left behind."""
        if self._attached:
            try:
                await self._responder.drained()
            except TimeoutError:
                self.leave()

    def reply(self) -> KeptReply | None:
        """Give what was sent, if it is whole."""
        if not self.finished:
            return None
        return KeptReply(self._status, self._headers, b"".join(self._body) if self._length <= BODY_BYTES else None)

    def _add(self, data: bytes) -> None:
        self._length += len(data)
        if self._length <= BODY_BYTES:
            self._body.append(data)
        else:
            self._body.clear()


Run = Callable[[Recorder], Awaitable[bool]]
"""Makes the call and writes its reply; says whether that is a complete answer. What it raises has not been answered."""


class _Running:
    """A request that is being answered here, and its reply once that is kept.

    `known` is done once it is known whether the key is this request's, or another one's; `made` says that the call has come
    to its end, and only its reply is still to be kept.
    """

    __slots__ = ("asked", "key", "known", "made", "reply", "task")

    def __init__(self, key: bytes, asked: bytes) -> None:
        self.key = key
        self.asked = asked
        self.known: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.made = False
        self.reply: KeptReply | None = None
        self.task: asyncio.Task[None]

    def tell(self) -> None:
        """Let go who waits for `known`."""
        if not self.known.done():
            self.known.set_result(None)

    def stop(self) -> None:
        """Cancel the call, since the process ends; what was made is kept all the same."""
        if not self.made:
            self.task.cancel(SHUTDOWN)


class Idempotency:
    """The requests with a key of one process. `keep_s` is how long a reply is kept, in seconds."""

    def __init__(self, replies: Replies, keep_s: float) -> None:
        self.keep_s = keep_s
        self._replies = replies
        self._running: dict[bytes, _Running] = {}
        self._claims = 0
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def running(self) -> int:
        """How many requests are being answered, those whose clients are gone among them."""
        return len(self._running)

    def wanted(self, request: Request) -> bool:
        """Tell whether a request is to be answered once."""
        return self.keep_s > 0 and request.fields is not None and HEADER in request.fields

    async def answer(self, request: Request, responder: Responder, who: Who, run: Run, within_s: float) -> None:
        """Answer with the reply that there is; else have the call made, and keep what it gives.

        `within_s` bounds the wait for somebody else's reply; the call has its own deadline. Raises what `run` does, and
        InvalidRequest, IdempotencyMismatch, ReplyNotKept, DeadlineExceeded.
        """
        name = read_key(request)
        ends = asyncio.get_running_loop().time() + within_s
        asked = _asked(request) if len(request.body) < _LARGE else await asyncio.to_thread(_asked, request)
        key = _hash(("team", who.team) if who.team is not None else ("key", who.key_id), request.path, name)
        while (other := self._running.get(key)) is not None:
            same = other.asked == asked
            await _wait(other.task if same else other.known, ends)
            if same and other.reply is not None:
                _replay(responder, other.reply)
                return
            if not same and not other.task.done():
                raise _mismatch()
        recorder = Recorder(responder)
        running = self._running[key] = _Running(key, asked)
        running.task = asyncio.get_running_loop().create_task(self._make(running, recorder, run, ends))
        running.task.add_done_callback(lambda task: self._ended(running, recorder, task))
        await self._attend(running, recorder)

    async def _attend(self, running: _Running, recorder: Recorder) -> None:
        """Stay until the call has its end, or the client is gone, which the call does not mind."""
        task = running.task
        waited: set[asyncio.Future[None]] = {task, recorder.left}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as why:
            if SHUTDOWN in why.args:
                running.stop()
                await asyncio.wait({task}, timeout=ENDING_S)
            recorder.leave()
            raise
        if task.done():
            task.result()

    async def _make(self, running: _Running, recorder: Recorder, run: Run, ends: float) -> None:
        """Claim the call and make it, or replay what another process has kept meanwhile."""
        found = await self._claim(running, recorder, ends)
        if found.reply is not None:
            running.reply = found.reply
            _replay(recorder, found.reply)
            return
        self._claims += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)
        reply: KeptReply | None = None
        try:
            if await run(recorder):
                reply = recorder.reply()
        finally:
            running.made = True
            self._claims -= 1
            await self._settle(running, reply)

    async def _claim(self, running: _Running, recorder: Recorder, ends: float) -> Found:
        loop = asyncio.get_running_loop()
        while True:
            found = await self._in_thread(self._replies.claim, running.key, running.asked)
            if found.state == "other":
                raise _mismatch()
            running.tell()
            if found.state != "taken":
                return found
            if not recorder.attached:
                raise ClientClosed("The client closed the connection.")
            if loop.time() >= ends:
                raise _too_long()
            await asyncio.sleep(POLL_S)

    async def _settle(self, running: _Running, reply: KeptReply | None) -> None:
        """Keep the reply, after its receipt; without one, let whoever asks again make an attempt of its own."""
        Outbox.of(asyncio.get_running_loop()).commit()
        try:
            if reply is None:
                await self._in_thread(self._replies.release, running.key)
            elif await self._in_thread(self._replies.keep, running.key, reply, self.keep_s):
                running.reply = reply
        except PenstockError as error:
            log.warning("a reply was not kept for its idempotency-key: %s", error)

    def _ended(self, running: _Running, recorder: Recorder, task: "asyncio.Task[None]") -> None:
        del self._running[running.key]
        running.tell()
        error = None if task.cancelled() else task.exception()
        if error is not None and not recorder.attached and not isinstance(error, PenstockError):
            log.error("a request failed after its client had gone", exc_info=error)

    def _renew(self) -> None:
        """Keep our claims alive for as long as there are any."""
        self._timer = None
        if self._claims:
            renewed = self._thread_of_its_own().submit(self._replies.renew)
            renewed.add_done_callback(_renewed)
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    def _thread_of_its_own(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "penstock-idempotency")
        return self._thread

    async def _in_thread(self, work: Callable[..., T], *given: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread_of_its_own(), work, *given)

    async def close(self, within_s: float = 0.0) -> None:
        """Give what is being answered so much time, end the rest, and let go of the ledger. Nothing may come after."""
        if self._running and within_s > 0:
            await asyncio.wait([running.task for running in self._running.values()], timeout=within_s)
        left = tuple(self._running.values())
        for running in left:
            running.stop()
        if left:
            await asyncio.wait([running.task for running in left])
        if self._timer is not None:
            self._timer.cancel()
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                await asyncio.get_running_loop().run_in_executor(thread, self._replies.close)
            except PenstockError as error:
                log.warning("the ledger was busy at the end: %s", error)
            thread.shutdown()


def read_key(request: Request) -> bytes:
    """Read the key. Raises InvalidRequest."""
    keys = [value for name, value in request.headers if name == HEADER]
    key = keys[0] if len(keys) == 1 else b""
    if not 0 < len(key) <= KEY_CHARACTERS or key.translate(None, _PRINTABLE):
        raise InvalidRequest(
            f"idempotency-key has to be one text of 1 to {KEY_CHARACTERS} printable ASCII characters.",
            hint="A new UUID for each request, the same for its repetitions, is a good one.",
            param="idempotency-key",
        )
    return key


def _asked(request: Request) -> bytes:
    """Hash what was asked; the caller's own key, which may stand in the query, is no part of it."""
    query = [part for part in request.query.split(b"&") if not part.startswith(b"key=")]
    return _hash(request.method, query, request.body)


def _hash(*parts: object) -> bytes:
    return sha256(msgpack.encode(parts)).digest()


async def _wait(end: "asyncio.Future[None]", ends: float) -> None:
    left_s = ends - asyncio.get_running_loop().time()
    done, _ = await asyncio.wait({end}, timeout=max(0.0, left_s))
    if not done:
        raise _too_long()


def _replay(responder: Responder | Recorder, reply: KeptReply) -> None:
    if reply.body is None:
        raise ReplyNotKept(
            f"This request was answered before, and its reply has more than {BODY_BYTES} bytes, so it was not kept.",
            hint="Send it with a new idempotency-key to have it answered once more.",
        )
    responder.send(reply.status, [*reply.headers, _REPLAYED], reply.body)


def _renewed(done: Any) -> None:
    error = done.exception()
    if error is not None:
        log.warning("the claims of idempotency-keys were not renewed: %s", error)


def _mismatch() -> IdempotencyMismatch:
    return IdempotencyMismatch(
        "This idempotency-key was used for another request before.",
        hint="Send a new key with each new request, and the same one only with the very same body.",
        param="idempotency-key",
    )


def _too_long() -> DeadlineExceeded:
    return DeadlineExceeded(
        "The first request with this idempotency-key is still being answered.",
        hint="Send it again later, with the same key.",
    )
