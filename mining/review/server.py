"""Serve the review of runs on this machine until it is interrupted."""

import socket
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from mining.errors import InputError
from mining.review.access import LOOPBACK, Access
from mining.review.application import build_application
from mining.review.pictures import PictureFolder
from mining.review.reviews import Reviews, RunToReview
from mining.storage.cache import cache_folder

HOST = "127.0.0.1"
PORT = 8770
_EVERYWHERE = ("0.0.0.0", "::")  # all addresses of this machine, none of which can be opened under this name


def serve_review(
    runs: Sequence[RunToReview], *, against: Path | None = None, host: str = HOST, port: int | None = None,
    browse: bool = True, announce: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Serve the review application until the process is interrupted.

    Args:
        runs: Finished runs, at least one; the first one is shown first.
        against: Another finished run of the same images, shown side by side.
        host: Address to listen on; any other than a loopback address needs the token in the address that is announced.
        port: Port; by default 8770, or any free one if that is taken.
        browse: Whether to open the address in a browser, if there is one.
        announce: Called once with the address.

    Raises:
        InputError: The port is taken, or the address cannot be used.
        RunError: The first run is not finished, or damaged; or the other one is, or shares no image with it.
    """
    reviews = Reviews(runs, PictureFolder(cache_folder("review")), against)
    reviews.open(0)  # problems are named before an address is
    listening = _listen(host, port)
    access = Access.for_address(host, listening.getsockname()[1])
    shown = socket.gethostname() if host in _EVERYWHERE else host
    address = f"http://{f'[{shown}]' if ':' in shown else shown}:{access.port}/"
    announce(address if access.token is None else f"{address}#token={access.token}")
    if browse and host in LOOPBACK:
        webbrowser.open(address)
    reviews.search_near_duplicates()  # after the address is announced
    application = build_application(reviews, access)
    config = uvicorn.Config(application, log_level="warning", access_log=False, server_header=False)
    try:
        with suppress(KeyboardInterrupt):  # the usual end
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        reviews.close()


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
