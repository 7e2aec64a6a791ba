"""The licence of the images of an export, as the formats of dataset cards name it."""

import re

UNKNOWN = "unknown"
# ids of Hugging Face's hub, which are those of SPDX in lower case
_OF_THE_HUB = {
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5",
    "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "gfdl", "odbl", "odc-by", "pddl", "unlicense",
    "wtfpl", "other", "unknown",
}  # fmt: skip


def hub_licence(name: str | None) -> dict[str, str]:
    """Return the licence fields of the head of a dataset card of Hugging Face's hub.

    Example:
        >>> hub_licence("CC-BY-4.0"), hub_licence("Our terms")
        ({'license': 'cc-by-4.0'}, {'license': 'other', 'license_name': 'our-terms'})
    """
    known = (name or UNKNOWN).strip().lower()
    if known in _OF_THE_HUB:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", known).strip("-") or UNKNOWN}
