"""Serve the review of a run on this machine until it is interrupted."""

import os
import socket
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn
from platformdirs import user_cache_path

from mining.errors import InputError
from mining.review.access import LOOPBACK, Access
from mining.review.application import build_application
from mining.review.maps import Maps
from mining.review.pictures import Pictures
from mining.review.session import ReviewSession
from mining.runs.run import Run

HOST = "127.0.0.1"
PORT = 8770
_EVERYWHERE = ("0.0.0.0", "::")  # all addresses of this machine, none of which can be opened under this name


def serve_review(
    run_dir: Path, *, host: str = HOST, port: int | None = None, browse: bool = True,
    announce: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Serve the review application of a run until the process is interrupted.

    Args:
        run_dir: A finished run.
        host: Address to listen on; any other than a loopback address needs the token in the address that is announced.
        port: Port; by default 8770, or any free one if that is taken.
        browse: Whether to open the address in a browser, if there is one.
        announce: Called once with the address.

    Raises:
        InputError: The port is taken, or the address cannot be used.
        RunError: The run is not finished, or damaged.
    """
    if (run_dir / "_delta_log").is_dir():
        raise InputError(
            f"{run_dir} is a label store: its boxes are judged in the runs that they are from, in the folder `runs` of "
            "the recipe (`boxmine status` of that folder lists them). The next `boxmine label` publishes corrections."
        )
    session = ReviewSession(Run.open(run_dir, finished=True))
    listening = _listen(host, port)
    access = Access.for_address(host, listening.getsockname()[1])
    chosen = os.environ.get("BOXMINE_CACHE")
    cache = Path(chosen) if chosen else user_cache_path("boxmine", appauthor=False)
    pictures = Pictures(session.index.run, cache / "review")
    shown = socket.gethostname() if host in _EVERYWHERE else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{access.port}/"
    announce(address if access.token is None else f"{address}#token={access.token}")
    if browse and host in LOOPBACK:
        webbrowser.open(address)
    config = uvicorn.Config(
        build_application(session, pictures, Maps(session.index.run), access),
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    try:
        with suppress(KeyboardInterrupt):  # the usual end
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        session.close()


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for number in (PORT, 0) if port is None else (port,):
        try:
            listening.bind((host, number))
        except OSError as error:
            if number == (port or 0):
                listening.close()
                raise InputError(f"Cannot listen on {host}:{number}: {error.strerror or error}.") from None
        else:
            listening.listen(128)  # before the address is announced
            return listening
    raise AssertionError("the last attempt either returns or raises")
