"""What there is to choose from, and how things stand."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mining.catalogue import BACKBONES, LOCALIZERS

Rows = list[tuple[str, ...]]


def localizer_lines() -> list[str]:
    """One line a localizer."""
    return [f"{name:<12}{summary}" for name, summary in LOCALIZERS.items()]


def backbone_lines() -> list[str]:
    """One line a backbone."""
    return [f"{name:<20}{listed.input_size:>4} px  {listed.note}" for name, listed in BACKBONES.items()] + [
        f"{'<any timm name>':<20}         timm, by its own name"
    ]


def status_of(source: str) -> tuple[Any, Rows, tuple[str, ...]]:
    """How a run stands, or a label store's last versions: as plain values, and as a table's rows and headings."""
    from mining.store.reading import history, is_store

    if is_store(source):
        versions = history(source)
        return versions, [_version_row(one) for one in versions], _VERSION_HEADINGS
    from mining.standing import standing

    found = asdict(standing(Path(source)))
    return found, _standing_rows(found), ("", "")


_VERSION_HEADINGS = ("version", "at", "corpus", "images", "boxes", "CorLoc", "what")


def _version_row(one: dict[str, Any]) -> tuple[str, ...]:
    from tasks.labelling import tally_in_words

    corloc = "-" if one["corloc"] is None else f"{one['corloc']:.1%}"
    what = tally_in_words(one["tally"]) + (" (accepted by a person)" if one["accepted"] else "")
    return str(one["version"]), one["at"], one["corpus"], str(one["images"]), str(one["boxes"]), corloc, what


def _standing_rows(found: dict[str, Any]) -> Rows:
    share = found["done"] / found["images"] if found["images"] else 0.0
    remedy = "; give its command again to carry on" if found["state"] in ("killed", "stopped") else ""
    rows: list[tuple[str, str | None]] = [
        ("run", str(found["run"])),
        ("state", found["state"] + remedy),
        ("images", f"{found['done']} of {found['images']} done ({share:.1%})"),
        ("shards", f"{found['shards_done']} of {found['shards']} done"),
        ("quarantined", str(found["quarantined"])),
        ("failed", found["failed"]),
        ("rate", None if found["rate"] is None else f"{found['rate']:.1f} images/s"),
        ("time left", None if found["seconds_left"] is None else f"{found['seconds_left'] / 60:.1f} min"),
    ]
    return [(name, value) for name, value in rows if value is not None]
