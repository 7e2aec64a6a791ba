"""List the images of a corpus as its settings say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mining.config import (
    NO_LABELS,
    CorpusSettings,
    ListedCorpus,
)
from mining.corpus import (
    CorpusSummary,
    scan,
)


def list_corpus(
    settings: CorpusSettings,
    out: Path,
    labels: Path | None,
    shard_size: int = 256,
    hashes_kept: Path | None = None,
    remarks: Sequence[str] = (),
) -> CorpusSummary:
    listing: Path | Literal["none"] | None = "none" if labels == NO_LABELS else labels
    return scan(
        settings.images, listing, out, split=settings.split, shard_size=shard_size,
        hashes=hashes_kept is not None, hashes_kept=hashes_kept, remarks=remarks,
        min_present=settings.min_present if isinstance(settings, ListedCorpus) else 0.0,
    )  # fmt: skip
