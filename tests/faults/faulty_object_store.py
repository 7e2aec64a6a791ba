"""An object store on loopback behind a proxy that injects the faults of real connections.

Both run in another process, because a client written in Rust may block this one's threads while it waits.

    python -m tests.faults.faulty_object_store SEED
"""

import http.client
import json
import logging
import random
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BUCKET = "labels"
SECRET = "very-secret-word"
FAULTS = ("500", "503", "cut before", "cut after", "cut within")
_CONTROL = "/-/faults"  # no bucket has this name


class FaultyProxy:
    """Controls the proxy."""

    def __init__(self, address: str) -> None:
        self.address = address

    def set_fault_rates(self, **rates: float) -> None:
        """Set the share of requests that get each fault; in names, '_' stands for ' ', as in cut_after."""
        body = json.dumps({name.strip("_").replace("_", " "): rate for name, rate in rates.items()}).encode()
        urllib.request.urlopen(urllib.request.Request(self.address + _CONTROL, body, method="PUT"), timeout=30)

    def read_counts(self) -> dict[str, int]:
        """Read how often each fault was injected, and how often none."""
        with urllib.request.urlopen(self.address + _CONTROL, timeout=30) as answer:
            return dict(json.loads(answer.read()))


class FaultSchedule:
    """Draws what happens to each request."""

    def __init__(self, seed: int) -> None:
        self.rates: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def next(self) -> str | None:
        """Draw the fault of the next request."""
        with self._lock:
            drawn = self._random.random()
            for fault, rate in self.rates.items():
                drawn -= rate
                if drawn < 0:
                    self.counts[fault] += 1
                    return fault
            self.counts["none"] += 1
            return None


@contextmanager
def run_object_store(seed: int) -> Iterator[tuple[FaultyProxy, dict[str, str]]]:
    """Run both; yields the proxy and the environment of a process that connects through it."""
    command = [sys.executable, "-m", "tests.faults.faulty_object_store", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield (
            FaultyProxy(address),
            {
                "AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
                "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true",
            },
        )  # fmt: skip
    finally:
        process.terminate()
        process.wait(30)


def serve(seed: int) -> None:
    """Start both, and print the address of the proxy."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="somebody",
        aws_secret_access_key=SECRET,
    ).create_bucket(Bucket=BUCKET)  # fmt: skip
    faults = FaultSchedule(seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self._body()
            if self.path == _CONTROL:
                if self.command == "PUT":
                    faults.rates = json.loads(body)
                return self._answer(200, {}, json.dumps(faults.counts).encode())
            fault = faults.next()
            if fault in ("500", "503"):
                self._answer(int(fault), {}, b"")
            elif fault == "cut before":
                self._cut()
            else:
                status, headers, content = self._ask_store(body)
                if fault == "cut after":  # it is done, but the client gets no answer
                    self._cut()
                else:
                    self._answer(status, headers, content, cut=fault == "cut within" and len(content) > 1)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward  # noqa: N815

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _ask_store(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(host, port)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            connection.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            response = connection.getresponse()
            content = response.read()
            kept = {k: v for k, v in response.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
            connection.close()
            return response.status, kept, content

        def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "date", "server"):
                    self.send_header(name, value)
            if self.command == "HEAD":
                self.send_header("Content-Length", headers.get("Content-Length", "0"))
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._cut()

        def _cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # this proxy cut the connection
                super().handle()

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.daemon_threads = True
    print(f"http://127.0.0.1:{front.server_address[1]}", flush=True)
    front.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
