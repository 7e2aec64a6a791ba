"""A webhook on loopback that keeps the messages it receives."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from tests.processes import wait_until


class Webhook(HTTPServer):
    """Keeps the `text` of each message."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        texts = self.texts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def wait_for(self, part: str, *, timeout_s: float = 60) -> list[str]:
        """Wait for a message that holds the text; returns all that do."""
        wait_until(
            lambda: any(part in text for text in self.texts),
            timeout_s=timeout_s,
            poll_s=0.2,
            message=lambda: f"No message with {part!r} among {self.texts}",
        )
        return [text for text in self.texts if part in text]


@contextmanager
def run_webhook() -> Iterator[Webhook]:
    """Serve a webhook."""
    webhook = Webhook()
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    try:
        yield webhook
    finally:
        webhook.shutdown()
