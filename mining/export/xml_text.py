"""Text that XML can hold."""

import re

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml_text(value: object) -> str:
    """Return a value as text, with `_` in place of characters that XML cannot hold."""
    return _NOT_IN_XML.sub("_", str(value))
