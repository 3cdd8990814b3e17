"""A token endpoint on loopback, plain or with TLS, that remembers what it was asked."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

from msgspec import Struct
from msgspec.json import encode


class Question(Struct):
    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


Answerer = Callable[[Question], tuple[int, dict[str, object]]]


def always(status: int, said: dict[str, object]) -> Answerer:
    """Give what answers every question alike."""

    def answer(_: Question) -> tuple[int, dict[str, object]]:
        return status, said

    return answer


class TokenService(ThreadingHTTPServer):
    """`answer` gives status and JSON for a question; `headers` go along with each answer."""

    daemon_threads = True

    def __init__(self, answer: Answerer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.headers: dict[str, str] = {}
        self.asked: list[Question] = []
        self.scheme = "http"

    @property
    def netloc(self) -> str:
        return f"localhost:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}"


class _Handler(BaseHTTPRequestHandler):
    server: TokenService

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        question = Question(self.command, self.path, headers, form)
        self.server.asked.append(question)
        status, said = self.server.answer(question)
        data = encode(said)
        self.send_response(status)
        for name, value in {"content-type": "application/json", **self.server.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST  # noqa: N815 - the name is the library's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Say nothing."""


@contextmanager
def serving(answer: Answerer, tls: ssl.SSLContext | None = None) -> Iterator[TokenService]:
    service = TokenService(answer)
    if tls is not None:
        service.socket = tls.wrap_socket(service.socket, server_side=True)
        service.scheme = "https"
    thread = Thread(target=service.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()
