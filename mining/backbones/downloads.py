"""Downloads of pretrained weights: without output, and given up soon where there is no network."""

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from mining.errors import ModelError

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
IMAGENET_REMEDY = (
    "Give a file of them by --weights FILE, or use efficientnet_lite0, whose weights are installed with boxmine."
)


@contextmanager
def weights_download(
    backbone: str, *, from_hub: bool, data: str = "ImageNet", remedy: str = IMAGENET_REMEDY
) -> Iterator[None]:
    """Set timeouts and redirect output for a block that downloads a backbone's weights.

    Args:
        backbone: Its name, for the message.
        from_hub: Whether the client of the Hugging Face Hub downloads them, which by itself retries for a minute.
        data: What the weights were trained on, for the message.
        remedy: What to do where they cannot be downloaded.

    Raises:
        ModelError: The download failed; the message has the remedy.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(READ_SECONDS)
    try:
        with redirect_stdout(sys.stderr), _quiet_hub() if from_hub else nullcontext():  # stdout is for results
            yield
    except ModelError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ModelError(
            f"The {data} weights of {backbone} could not be downloaded ({reason.rstrip('. ')}). {remedy}"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Restrict the Hugging Face Hub's client to its cache where its server cannot be reached."""
    from huggingface_hub import close_session, constants

    logger = logging.getLogger("huggingface_hub")
    level, offline = logger.level, constants.HF_HUB_OFFLINE
    host = urlsplit(constants.ENDPOINT)
    is_reachable = offline or can_connect(host.hostname or "", host.port or 443, scheme=host.scheme)
    logger.setLevel(logging.CRITICAL)
    constants.HF_HUB_OFFLINE = offline or not is_reachable
    close_session()  # a session keeps the mode it was started in
    try:
        yield
    except OSError as error:
        raise error if is_reachable else ConnectionError(f"no connection to {host.hostname}") from None
    finally:
        constants.HF_HUB_OFFLINE = offline
        logger.setLevel(level)
        close_session()


def can_connect(host: str, port: int, *, scheme: str = "https") -> bool:
    """Return whether the host, or its proxy in the environment, accepts a connection within 5 seconds."""
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    if proxy:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = address.hostname or host, address.port or 80
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
