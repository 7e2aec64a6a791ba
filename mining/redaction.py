"""Redact user names, passwords and keys in addresses before they are printed or stored."""

import re
from collections.abc import Mapping
from typing import Any

_USER = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{1,2})  # one slash: a path leaves the second one out
        (?: [^\s/@:'"]*:[^\s'"]*@                   # user:password@, where the password may hold / and @
          | [^\s/@'"]+@ )                           # user@""",
    re.VERBOSE,
)
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
_PARAMETER = re.compile(r"([?&][^=&]*(?:secret|password|token|sig|credential|key)[^=&]*=)[^&,;}]+", re.IGNORECASE)
_STORAGE_KEY = re.compile(  # the names that storage libraries and connection strings give their keys
    r"""((?: (?i:secret_access_key|session_token|account_key|access_key|sas_token|sas_key|service_account_key)
             ["']?\s*[=:]
           | \b(?i:password)= | \b[A-Z_]*PASSWORD: ) \s*["']?) [^\s&,;"'}]+""",
    re.VERBOSE,
)
HIDDEN = "***"


def redact(text: str) -> str:
    """Replace credentials in a text by ***: those in addresses, and the values of storage keys.

    Nothing else is replaced: a class or an image may be called "secret".

    Example:
        >>> redact("s3://key:secret@bucket/labels")
        's3://***@bucket/labels'
    """
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _ADDRESS.sub(lambda address: _PARAMETER.sub(rf"\g<1>{HIDDEN}", address[0]), text)
    return _STORAGE_KEY.sub(rf"\g<1>{HIDDEN}", text)


def redact_values(value: Any) -> Any:
    """Redact each text in nested lists and dictionaries; what was JSON stays JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value


def has_credentials(address: str) -> bool:
    """Whether an address contains a user name or a password."""
    return _USER.match(address) is not None
