"""Who may use the review application: the checks that every request passes.

On loopback no token is needed, but a page of another site must not reach the application through the reviewer's
browser: the Host header has to be the application's own (a name that was rebound to 127.0.0.1 is another one), and a
request that writes has to come from its own pages. On other addresses a token is needed as well. The browser gets it
from the address that was printed, as a fragment, which is sent to no server, and exchanges it for a cookie.
"""

import hmac
from dataclasses import dataclass, field
from secrets import token_urlsafe

from starlette.requests import Request

COOKIE = "boxmine_review"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")
_READING = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """The rules of one application.

    Attributes:
        host: The address that it listens on.
        port: The port.
        token: The secret; None on loopback.
    """

    host: str
    port: int
    token: str | None = field(default=None, repr=False)

    @classmethod
    def for_address(cls, host: str, port: int) -> "Access":
        """Return the rules for an address, with a new token unless it is a loopback address."""
        return cls(host, port, None if host in LOOPBACK else token_urlsafe(24))

    def refusal(self, request: Request) -> tuple[int, str] | None:
        """Return status and reason for a request that is refused, None for one that may pass."""
        if self.token is None and not self._is_own_host(request.headers.get("host", "")):
            return 421, "This host name is not the review application's."
        if request.method not in _READING and not self._is_from_own_page(request):
            return 403, "Only the review application's own pages may write."
        is_public = request.url.path in ("/", "/api/login") or request.url.path.startswith("/assets/")
        if self.token is not None and not is_public and not self.accepts(request.cookies.get(COOKIE, "")):
            return 401, "Open the address with the token that was printed when the application started."
        return None

    def accepts(self, token: str) -> bool:
        """Return whether a token is the right one, in a time that does not depend on it."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def _is_own_host(self, host: str) -> bool:
        return host in {f"{name}:{self.port}" for name in LOOPBACK}

    def _is_from_own_page(self, request: Request) -> bool:
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        if site is not None and site not in _OWN_SITES:
            return False
        if origin is not None and origin.partition("://")[2] != request.headers.get("host", ""):
            return False
        return request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"
