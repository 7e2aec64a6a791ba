"""What there is to choose from."""


def localizer_lines() -> list[str]:
    """One line a localizer."""
    from mining.localizers import LOCALIZERS

    return [f"{name:<12}{kind.summary}" for name, kind in LOCALIZERS.items()]


def backbone_lines() -> list[str]:
    """One line a backbone."""
    from mining.backbones import BACKBONES

    return [f"{name:<20}{spec.input_size:>4} px  {spec.note}" for name, spec in BACKBONES.items()] + [
        f"{'<any timm name>':<20}         timm, by its own name"
    ]
