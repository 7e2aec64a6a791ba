"""Commands that list and describe what there is to choose from: localizers, backbones."""

import textwrap
from typing import Annotated

from cyclopts import Parameter

from flows.cli.common import app
from flows.cli.terminal import print_table

_WIDTH = 100
_INDENT = 11


@app.command
def localizers(
    name: Annotated[str | None, Parameter(help="Describe this localizer and its options.")] = None, /
) -> int:
    """List the localizers, one line each, or describe one with its options."""
    from mining.localizers.registry import LOCALIZERS

    if name is not None:
        return _describe_localizer(name)
    for listed, entry in LOCALIZERS.items():
        print(f"{listed:<12}{entry.summary} ({entry.citation})")
    return 0


@app.command
def backbones(name: Annotated[str | None, Parameter(help="Describe this backbone.")] = None, /) -> int:
    """List the backbones, one line each, or describe one."""
    from mining.backbones.registry import BACKBONES, TRANSFORMERS

    if name is not None:
        return _describe_backbone(name)
    for listed, entry in BACKBONES.items():
        print(f"{listed:<20}{entry.input_size:>4} px  {entry.note}")
    print(f"{'<any timm name>':<20}         timm, by its own name; pretrained:NAME takes torchvision's, too")
    print("\nVision transformers of timm; weights from the Hugging Face Hub, or a file by --weights:\n")
    columns = ("backbone", "parameters", "input", "stride", "licence of the weights", "")
    rows = [
        (name, f"{one.parameters:.0f} M", f"{one.input_size} px", f"{one.patch} px", one.licence, one.note)
        for name, one in TRANSFORMERS.items()
    ]
    print_table(rows, columns)
    return 0


def _describe_localizer(name: str) -> int:
    from mining.localizers.option_descriptions import describe_options
    from mining.localizers.registry import LOCALIZERS, localizers_on_same_weights

    options = describe_options(name)  # refuses unknown names
    entry = LOCALIZERS[name]
    related = ", ".join(localizers_on_same_weights(name))
    whole = "maximum" if entry.normalise == "max" else "range"
    print(f"{name}: {entry.summary}\n")
    print(textwrap.fill(entry.description, _WIDTH, break_on_hyphens=False), end="\n\n")
    _print_facts(
        {
            "maps": "one per image, the same for every class" if entry.class_agnostic else "one per class",
            "threshold": f"{entry.threshold:g} of the map's {whole} (normalise: {entry.normalise})",
            "scales": f"{', '.join(f'{scale:g}' for scale in entry.scales)} where maps are not refined",
            "gradients": "needed when mining" if entry.needs_gradients else "not needed when mining",
            "weights": f"those of any classifier; shared with {related}" if related else "its own",
            "reference": entry.reference,
        }
    )
    print("\nOptions, as --options.NAME VALUE or `options: {NAME: VALUE}` in a recipe:\n")
    print_table(options, ("name", "values", "default", "meaning"))
    return 0


def _describe_backbone(name: str) -> int:
    from mining.backbones.registry import BACKBONES, TRANSFORMERS, is_backbone, refuse_unknown_classifier, spec_of

    refuse_unknown_classifier(name)
    if not is_backbone(name):
        return _describe_torchvision_classifier(name)
    if name in BACKBONES:
        entry = BACKBONES[name]
        size, weights, licence = entry.input_size, entry.weights, entry.licence
    else:
        from mining.backbones.timm_networks import timm_licence

        size, licence = spec_of(name).input_size, timm_licence(name)
        weights = "timm's, downloaded from the Hugging Face Hub on first use"
        if name in TRANSFORMERS:
            weights += "; or --weights FILE, of timm or of the authors"
    _print_facts(
        {
            "backbone": name,
            "input": f"{size} x {size} px at scale 1",
            "weights": weights.format(name=name.replace("_", "-")),
            "untrained": _use_untrained(name),
            "licence": licence,
        }
    )
    return 0


def _describe_torchvision_classifier(name: str) -> int:
    from mining.backbones.classifiers import classifier_spec
    from mining.backbones.registry import BACKBONES

    _print_facts(
        {
            "classifier": name,
            "input": f"{classifier_spec(name).input_size} px squares at scale 1",
            "weights": BACKBONES["vgg16"].weights,
            "untrained": _use_untrained(name),
            "trained": "not with torchvision's network; timm may have one of a similar name",
            "licence": BACKBONES["vgg16"].licence,
        }
    )
    return 0


def _use_untrained(name: str) -> str:
    from mining.backbones.registry import BACKBONES, has_linear_classifier, is_backbone

    use = f"mines ImageNet's classes with --model pretrained:{name}"
    if has_linear_classifier(name):
        return f"{use}, by cam or a localizer on its weights"
    if name not in BACKBONES and is_backbone(name):
        from mining.backbones.timm_networks import is_timm_transformer

        if is_timm_transformer(name):
            return f"cannot mine, because it is a transformer; train it first: boxmine train --backbone {name}"
    condition = "" if name in BACKBONES else ", if it is a convolutional network"
    return f"{use}, unmodified and with its own head, by a localizer that uses gradients{condition}"


def _print_facts(facts: dict[str, str]) -> None:
    for title, text in facts.items():
        filled = textwrap.fill(text, _WIDTH - _INDENT, break_on_hyphens=False)
        print(f"{title:<{_INDENT}}{textwrap.indent(filled, ' ' * _INDENT).lstrip()}")
