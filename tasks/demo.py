"""The embedded default: a generated corpus."""

from pathlib import Path


def generate_corpus(out: Path, *, images: int, seed: int) -> Path:
    """Write a generated corpus with exact truth; gives its folder. The same call gives the same files."""
    from mining.synthetic import generate

    generate(out, images=images, seed=seed)
    return out
