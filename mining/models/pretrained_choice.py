"""The meaning of `pretrained:NAME`, decided without importing a network library."""

from pathlib import Path

from mining.backbones.registry import has_linear_classifier
from mining.config import SYNSETS, WEIGHTS_MARK, MineOptions, PretrainedOptions
from mining.corpus.names import is_valid_unicode, normalise_class_name
from mining.errors import ModelError
from mining.localizers.registry import LOCALIZERS
from mining.models.card import PRETRAINED
from mining.storage.files import sha256_of
from mining.storage.untrusted_files import iter_lines

LINEAR, OWN_HEAD = "cam", "gradcam"  # default localizers, of a linear classifier and of any other head


def default_localizer(name: str) -> str:
    """Return the localizer that `pretrained:NAME` is mined with, if none is asked for."""
    return LINEAR if has_linear_classifier(name) else OWN_HEAD


def refuse_localizer_without_gradients(localizer: str, name: str) -> None:
    """Check that a localizer can read the head of an unmodified network.

    Args:
        localizer: Name of a localizer.
        name: Of the network.

    Raises:
        ModelError: It needs one linear layer on averaged features.
    """
    if reads_any_head(localizer):
        return
    usable = ", ".join(other for other in LOCALIZERS if reads_any_head(other))
    raise ModelError(
        f"{localizer} needs a classifier that is one linear layer on averaged features, and pretrained:{name} is the "
        f"unmodified network with a head of its own. Use --localizer {usable}, or train {localizer} on your classes "
        "(`boxmine train`)."
    )


def reads_any_head(localizer: str) -> bool:
    """Whether a localizer needs no more of a classifier than its gradients."""
    entry = LOCALIZERS[localizer]
    return entry.needs_gradients and entry.weights_of is not None


def refuse_files_of_pretrained(options: PretrainedOptions, model: str) -> None:
    """Check the options of a pretrained network.

    Raises:
        ModelError: They are given for a model folder, class names are given without weights, or a file is missing.
    """
    has_file = WEIGHTS_MARK.is_path(options.weights)
    if not model.startswith(PRETRAINED):
        if given := _changed(options):
            raise ModelError(
                f"{_option(given[0])} goes with --model pretrained:NAME only; {model} has its own weights and classes."
            )
        return
    if has_file and not Path(options.weights).is_file():
        raise ModelError(f"No weights file {options.weights}; give 'imagenet', 'none' or a file that exists.")
    names_file = None if options.class_names == SYNSETS else options.class_names
    if options.weights == "imagenet" and (names_file is not None or options.objective != "single"):
        option = "class_names" if names_file is not None else "objective"
        raise ModelError(f"{_option(option)} goes with --weights FILE only; ImageNet's weights have its classes.")
    if names_file is not None:
        read_class_names(names_file)


def _changed(options: PretrainedOptions) -> list[str]:
    fields = PretrainedOptions.model_fields
    return [name for name, field in fields.items() if getattr(options, name) != field.default]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def only_weights(options: PretrainedOptions) -> MineOptions:
    """Return options that ask for the same weights and classes, and are the defaults otherwise."""
    return MineOptions(**{name: getattr(options, name) for name in PretrainedOptions.model_fields})


def identify_pretrained(options: PretrainedOptions, model: str) -> str:
    """Return a text that differs for another network, other weights or other class names."""
    parts = [model]
    if WEIGHTS_MARK.is_path(options.weights):
        parts.append(sha256_of(Path(options.weights)))
    elif options.weights != "imagenet":
        parts.append(options.weights)
    if options.class_names is not None:
        parts.append(str(SYNSETS) if options.class_names == SYNSETS else sha256_of(options.class_names))
    return " ".join(parts)


def read_class_names(path: Path) -> list[str]:
    """Read class names from a text file, one per line in the order of the network's outputs; empty lines are skipped.

    Raises:
        ModelError: The file is missing or is not text, has no name, or has one twice.
    """
    try:
        names = [name for line in iter_lines(path) if (name := normalise_class_name(line))]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{path} cannot be read as class names ({reason}); give a text file with one name per line."
        ) from None
    repeated = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if not names or repeated is not None or not all(map(is_valid_unicode, names)):
        fault = "holds no class name" if not names else f"names the class {repeated!r} twice"
        raise ModelError(f"{path} {fault}; give a text file with one name per line, in the order of the outputs.")
    return names
