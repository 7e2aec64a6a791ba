"""Commands that list what there is to choose from: localizers, backbones."""

from flows.cli.common import app


@app.command
def localizers() -> int:
    """List the localizers, one line each."""
    from tasks.listing import localizer_lines

    print("\n".join(localizer_lines()))
    return 0


@app.command
def backbones() -> int:
    """List the backbones, one line each."""
    from tasks.listing import backbone_lines

    print("\n".join(backbone_lines()))
    return 0
