"""Addresses with a user's name and password in them: what is shown or kept of them leaves these out."""

import re

_USER = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{1,2})  # one slash: a path leaves the second one out
        (?: [^\s/@:'"]*:[^\s'"]*@                   # user:password@, where the password may hold / and @
          | [^\s/@'"]+@ )                           # user@""",
    re.VERBOSE,
)
_PARAMETER = re.compile(
    r"""(?P<name> [?&][^=&\s]*(?:secret|password|token|sig|credential|key)[^=&\s]*=    # ?token=...
                | [\w.-]*(?:secret|password)[\w.-]*["']?\s*[=:]\s*["']? )             # aws_secret_access_key: "..."
        [^\s&,;"'}]+""",
    re.VERBOSE | re.IGNORECASE,
)
HIDDEN = "***"


def redacted(text: str) -> str:
    """The text with user names and passwords in addresses, and values that are called secret, replaced by ***."""
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\g<name>{HIDDEN}", text)


def holds_password(address: str) -> bool:
    """Whether a user or password stands in the address."""
    return _USER.match(address) is not None
