"""``thistledown top --web``: the live view as one page, served on this machine's loopback by the viewer's own process.

Who does not know the token in the address gets nothing; nor does who comes by another name than the loopback's
(``Host``, against rebound names), or from another page (``Origin``, ``Sec-Fetch-Site``). The page loads nothing
from elsewhere, and may not: its policy says so. What changes something is a POST with a header that no other page
can send unasked.

Beside the page: ``view`` as JSON, and ``metrics`` as Prometheus reads it.
"""

import hmac
import http.server
import json
import secrets
import sys
import threading
import time
import urllib.parse
from importlib import resources
from typing import Any

from thistledown._programs import Unanswered, ask
from thistledown._watching import Watching

__all__ = ["Page", "serve"]

LOOPBACK = "127.0.0.1"

LONGEST_BYTES = 4096
"""Of what is posted."""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def serve(pid: int, port: int, every: float) -> int:
    """Serves the page until Ctrl-C; the exit status."""
    try:
        page = Page(pid, port, every)
    except OSError as error:
        print(f"thistledown: port {port} of {LOOPBACK} is not to be had: {error.strerror}", file=sys.stderr)
        return 1
    with page:
        print(
            f"process {pid} is shown at {page.address}\nPrometheus reads {page.address}metrics\nCtrl-C ends it",
            flush=True,
        )
        page.serve_forever()
    return 0


class Page(http.server.ThreadingHTTPServer):
    """The server of the page.

    Args:
        pid: the program that is shown.
        port: 0 for a free one.
        every: seconds between two looks at the program, at least, however many browsers look.
    """

    daemon_threads = True

    def __init__(self, pid: int, port: int, every: float) -> None:
        super().__init__((LOOPBACK, port), Handler)
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{LOOPBACK}:{self.server_port}", f"localhost:{self.server_port}"}
        self.address = f"http://{LOOPBACK}:{self.server_port}/{self.token}/"
        self.watching = Watching(pid)
        self.every = every
        self.looked = 0.0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def view(self, after: float) -> dict[str, Any]:
        """What the page shows, and what workers have ended since a moment of the program's clock."""
        with self.lock:
            if time.monotonic() - self.looked >= 0.8 * self.every:
                self.watching.look()
                self.looked = time.monotonic()
            watching = self.watching
            return {
                "pid": watching.pid,
                "every": self.every,
                "seen": watching.seen,
                "trouble": watching.trouble,
                "rates": watching.rates,
                "history": list(watching.history),
                "workers": watching.workers,
                "spans": [span for span in watching.spans if span["ended"] > after],
            }

    def text(self, nonce: str) -> bytes:
        """The page itself."""
        page = resources.files("thistledown").joinpath("_web_page.html").read_text(encoding="utf-8")
        return page.replace("NONCE", nonce).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Page
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """The page, what it shows, or numbers."""
        what = self.admitted()
        if what is None:
            return
        if what == "":
            nonce = secrets.token_urlsafe(16)
            self.tell(200, "text/html; charset=utf-8", self.server.text(nonce), nonce)
        elif what == "view":
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            self.tell_json(200, self.server.view(_number(query.get("after", ["0"])[0])))
        elif what == "metrics":
            try:
                numbers = ask(self.server.watching.pid, "metrics")
            except Unanswered as why:
                numbers = str(why)
            found = numbers.startswith("# HELP")
            self.tell(200 if found else 503, "text/plain; version=0.0.4; charset=utf-8", numbers.encode())
        else:
            self.refuse(404, "there is nothing here")

    def do_POST(self) -> None:
        """Opens, cancels or kills one."""
        what = self.admitted()
        if what is None:
            return None
        length = self.headers.get("Content-Length", "")
        if what != "ask" or not length.isdecimal() or int(length) > LONGEST_BYTES:
            return self.refuse(400, "there is nothing here that could be asked so")
        if self.headers.get("X-Thistledown") != "asked" or not self.headers.get("Origin"):
            return self.refuse(403, "only the page itself can ask for this")
        try:
            [(verb, about)] = json.loads(self.rfile.read(int(length))).items()
        except (ValueError, AttributeError):
            return self.refuse(400, "one question at a time, as JSON")
        if verb not in ("open", "cancel", "kill") or not isinstance(about, str):
            return self.refuse(400, "open, cancel or kill, by an id")
        self.tell_json(200, self.server.watching.ask(verb, about))
        return None

    def admitted(self) -> str | None:
        """What is asked for, behind the token; None when that is refused."""
        _, token, *rest = [*urllib.parse.urlsplit(self.path).path.split("/", 2), ""]
        words = self.objection(token)
        if words is not None:
            self.refuse(403, words)
            return None
        return rest[0]

    def objection(self, token: str) -> str | None:
        """Why whoever asks is not answered."""
        host, origin = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(host) != 1 or host[0].lower() not in self.server.hosts:
            return "this is served under the loopback's name alone"
        if origin and origin != [f"http://{host[0]}"]:
            return "another page is no business of this one"
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return "another page is no business of this one"
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return "the address has a token in it, which `thistledown top --web` has printed"
        return None

    def refuse(self, status: int, words: str) -> None:
        """Says no, and hangs up: what else was sent is not read."""
        self.close_connection = True
        self.tell(status, "text/plain; charset=utf-8", f"{words}\n".encode())

    def tell_json(self, status: int, told: Any) -> None:
        """Answers with data."""
        self.tell(status, "application/json", json.dumps(told).encode())

    def tell(self, status: int, kind: str, body: bytes, nonce: str = "") -> None:
        """Answers."""
        self.send_response(status)
        policy = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        if nonce:
            policy += f"; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:"
        for name, value in {**HEADERS, "Content-Security-Policy": policy}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """What the answers say that they come from."""
        return "thistledown"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address has the token in it."""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
