"""What there is to choose from."""

from mining.backbones.registry import BACKBONES
from mining.localizers.registry import LOCALIZERS


def localizer_lines() -> list[str]:
    """One line a localizer."""
    return [f"{name:<12}{entry.summary} ({entry.citation})" for name, entry in LOCALIZERS.items()]


def backbone_lines() -> list[str]:
    """One line a backbone."""
    return [f"{name:<20}{listed.input_size:>4} px  {listed.note}" for name, listed in BACKBONES.items()] + [
        f"{'<any timm name>':<20}         timm, by its own name"
    ]
