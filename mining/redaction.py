"""Addresses with a user's name and password in them: what is shown or kept of them leaves these out."""

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
    """The text with user names, passwords and keys in addresses, and storage keys by their names, replaced by ***.

    Nothing else is: a class or a photo may be called "secret".
    """
    text = _USER.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _ADDRESS.sub(lambda address: _PARAMETER.sub(rf"\g<1>{HIDDEN}", address[0]), text)
    return _STORAGE_KEY.sub(rf"\g<1>{HIDDEN}", text)


def redact_values(value: Any) -> Any:
    """The same for each text in lists and dictionaries, so that what is written as JSON stays JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(one) for one in value]
    return value


def has_credentials(address: str) -> bool:
    """Whether a user or password stands in the address."""
    return _USER.match(address) is not None
