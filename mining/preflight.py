"""Check the settings of a command before a network library is imported.

The step that needs a setting checks it too; checking it here saves the seconds of the import.
"""

from functools import singledispatch
from pathlib import Path

from mining.backbones.registry import (
    BACKBONES,
    COCO,
    has_linear_classifier,
    refuse_unknown_backbone,
    refuse_unknown_classifier,
    refuse_without_coco,
)
from mining.config import (
    DETECTOR_WEIGHTS_MARK,
    NO_LABELS,
    WEIGHTS_MARK,
    CompareSettings,
    CorpusSettings,
    DetectorOptions,
    FuseSettings,
    MapsSettings,
    MineSection,
    MineSettings,
    RetrainSettings,
    RunSettings,
    ScoreSettings,
    Settings,
    TrainOptions,
    TrainSettings,
)
from mining.config.bootstrap import BootstrapSettings
from mining.config.proof import ProofSettings
from mining.corpus.image_root import ImageRoot, check_output_outside_images
from mining.corpus.readers import detect_kind
from mining.errors import ModelError, ScoringError
from mining.experiments.folder import refuse_foreign_folder
from mining.experiments.settings import ExperimentSettings
from mining.label_store.settings import LabelSettings
from mining.localizers.option_values import options_of
from mining.localizers.registry import refuse_unknown_localizer
from mining.models.card import (
    CARD_FILE,
    PRETRAINED,
    WEIGHTS_FILE,
    ModelCard,
    is_detector,
    read_card,
    refuse_imported,
)
from mining.models.class_selection import select_classes
from mining.models.detector_options import refuse_map_options
from mining.models.overrides import refinement
from mining.models.pretrained_choice import (
    default_localizer,
    refuse_files_of_pretrained,
    refuse_localizer_without_gradients,
)
from mining.reporting.maps_inputs import find_photos, plan_columns, refuse_unknown_classes
from mining.reporting.page_files import check_maps_page, check_page
from mining.runs.inputs import refuse_other_mining, refuse_unknown_thresholds, resolve_thresholds
from mining.runs.run import Run
from mining.runtimes.requirements import refuse_int8_elsewhere
from mining.storage.untrusted_files import check_not_special_file
from mining.training.job import refuse_other_training
from mining.training.option_checks import (
    refuse_blind_backbone,
    refuse_evaluator_of,
    refuse_other_evaluator,
    refuse_other_start,
    refuse_small_crops,
)


@singledispatch
def check(settings: Settings) -> None:
    """Check settings as far as that needs no network library.

    Args:
        settings: Settings of a command; each class has its own checks.

    Raises:
        InputError: The command would end with this error.
    """


@check.register
def _train(settings: TrainSettings) -> None:
    check_training(settings)
    check_corpus(settings)
    check_truth(settings.boxes)
    check_output_outside_images(settings.out, settings.images)
    refuse_other_training(settings)


@check.register
def _mine(settings: MineSettings) -> None:
    check_corpus(settings)
    check_output_outside_images(settings.out, settings.images)
    check_mining(settings, check_model(settings.model), settings.model)
    refuse_other_mining(settings)


@check.register
def _run(settings: RunSettings) -> None:
    check_truth(settings.truth)
    check_class_predictions(settings.classes_from)
    for corpus in (settings.corpus, settings.test.applied_to(settings.corpus)):
        check_output_outside_images(settings.out, corpus.images)
    if settings.model is None:
        check(settings.train_settings())
        Run(settings.out).refuse_foreign_folder(settings.out / "model")
        check_corpus(settings.test.applied_to(settings.corpus))
        check_mining(settings.mine, None, settings.train.localizer)
    else:
        check(settings.mine_settings())


@check.register
def _bootstrap(settings: BootstrapSettings) -> None:
    for localizer in settings.localizer_runs():
        check(localizer)
    check_truth(settings.boxes)
    check_detector(settings.detector)


@check.register
def _fuse(settings: FuseSettings) -> None:
    for run in settings.runs:
        check_output_outside_images(settings.out, Run.open(run, finished=True).image_root)


@check.register
def _prove(settings: ProofSettings) -> None:
    for run in settings.runs:
        Run.open(run, finished=True)
    for truth in (settings.truth, settings.test.truth):
        check_truth(truth)
    ImageRoot(settings.test.images)
    check_output_outside_images(settings.out, settings.test.images, "out")
    check_detector(settings.detector)


@check.register
def _retrain(settings: RetrainSettings) -> None:
    check_training(settings.train)
    for corpus in (settings.corpus, settings.test.applied_to(settings.corpus)):
        check_corpus(corpus)
        check_output_outside_images(settings.runs, corpus.images, "runs:")
    check_mining(settings.mine, None, settings.train.localizer)
    check_truth(settings.truth)


@check.register
def _label(settings: LabelSettings) -> None:
    check_corpus(settings.corpus)
    check_output_outside_images(settings.runs, settings.corpus.images, "runs:")
    check_output_outside_images(settings.store, settings.corpus.images, "store:")
    check_mining(settings.mine, check_model(settings.model), settings.model)
    check_truth(settings.truth)


@check.register
def _experiment(settings: ExperimentSettings) -> None:
    refuse_foreign_folder(settings)
    for variant in settings.variants:
        try:
            train = settings.train_options(variant, settings.seeds[0])
            check_training(train)
            check_mining(settings.mine_options(variant, settings.pyramids[0]), None, train.localizer)
        except ModelError as error:
            raise ModelError(f"Variant {variant!r}: {error}") from None
    for corpus in settings.corpora.values():
        for images in (corpus.train_corpus(), corpus.test_corpus()):
            check_corpus(images)
            check_output_outside_images(settings.out, images.images)
        check_truth(corpus.truth)


@check.register
def _score(settings: ScoreSettings) -> None:
    Run(settings.run).require_finished()
    check_truth(settings.truth)
    check_class_predictions(settings.classes_from)


@check.register
def _compare(settings: CompareSettings) -> None:
    Run(settings.first).require_finished()
    Run(settings.second).require_finished()
    if settings.out is not None:
        check_page(settings.out)
    check_truth(settings.truth)


@check.register
def _maps(settings: MapsSettings) -> None:
    check_maps_page(settings.out)
    cards = [check_model(model) for model in settings.models]
    plan_columns(settings)
    known = [card for card in cards if card is not None]
    if len(known) == len(cards):  # ImageNet's classes are known to a network library only
        refuse_unknown_classes(settings.classes, known)
    find_photos(settings)


def check_corpus(corpus: CorpusSettings) -> None:
    """Check that images and labels exist and are of a known kind.

    Raises:
        CorpusError: They are not.
    """
    ImageRoot(corpus.images)
    if corpus.labels is not None and corpus.labels != NO_LABELS:
        detect_kind(corpus.labels)


def check_truth(truth: Path | None) -> None:
    """Check that the ground truth is a file or folder that exists.

    Raises:
        ScoringError: It is not.
    """
    try:
        if truth is not None:
            check_not_special_file(truth)
    except OSError as error:
        raise ScoringError(
            f"Cannot read the ground truth {truth}: {error.strerror}. Give a COCO JSON with boxes, a folder of VOC "
            "XML, or a CUB folder."
        ) from None


def check_class_predictions(path: Path | None) -> None:
    """Check that the class predictions are a file or folder that exists.

    Raises:
        ScoringError: They are not.
    """
    try:
        if path is not None:
            check_not_special_file(path)
    except OSError as error:
        raise ScoringError(
            f"Cannot read the classes of {path}: {error.strerror}. Give a run directory, or a CSV of file_name,labels."
        ) from None


def check_training(options: TrainOptions) -> None:
    """Check the localizer, its options, the backbone and its weights.

    Raises:
        ModelError: One of them is unknown or missing, or they do not fit together.
    """
    options_of(options.localizer, options.options)
    refuse_unknown_backbone(options.backbone)
    refuse_unusable_start(options)
    refuse_blind_backbone(options)
    size = options.input_size or (BACKBONES[options.backbone].input_size if options.backbone in BACKBONES else None)
    if size is not None:
        refuse_small_crops(options, size)


def check_detector(options: DetectorOptions) -> None:
    """Check a detector's backbone and its weights.

    Raises:
        ModelError: The backbone is unknown, or the weights are missing or not published for it.
    """
    refuse_unknown_backbone(options.backbone)
    weights = options.weights
    if weights == COCO:
        refuse_without_coco(options.backbone)
    if DETECTOR_WEIGHTS_MARK.is_path(weights) and not Path(weights).exists():
        raise ModelError(
            f"No weights file or model folder {weights}; give 'imagenet', 'coco', 'none', or one that exists."
        )


def refuse_unusable_start(options: TrainOptions) -> None:
    """Raise ModelError if the weights file or a model folder that the training starts from cannot be used."""
    card = ModelCard(options.localizer, options.backbone, "single", [], 1, {})
    if WEIGHTS_MARK.is_path(options.weights):
        path = Path(options.weights)
        if path.is_dir():
            refuse_other_start(card, read_card(path), path)
        elif not path.is_file():
            raise ModelError(
                f"No weights file or model folder {path}; give 'imagenet', 'none', or a file or folder that exists."
            )
    if options.evaluator is not None:
        refuse_evaluator_of(options.localizer)
        refuse_other_evaluator(card, read_card(options.evaluator), options.evaluator)


def check_model(model: str) -> ModelCard | None:
    """Check that a model can be used for mining.

    Args:
        model: Model folder, or pretrained:NAME.

    Returns:
        The model's card; None for a pretrained classifier.

    Raises:
        ModelError: The folder, its weights or the backbone cannot be used.
    """
    if model.startswith(PRETRAINED):
        refuse_unknown_classifier(model.removeprefix(PRETRAINED))
        return None
    card = read_card(Path(model))
    refuse_imported(card, Path(model))
    if not (Path(model) / WEIGHTS_FILE).is_file():
        raise ModelError(f"{Path(model) / WEIGHTS_FILE} is missing. Copy the model folder again, or train it again.")
    if is_detector(card):
        return card
    try:
        options_of(card.localizer, card.options)
    except ModelError as error:
        raise ModelError(
            f"{Path(model) / CARD_FILE} asks for what this version of boxmine does not have: {error}"
        ) from None
    return card


def check_mining(options: MineSection, card: ModelCard | None, model: str) -> None:
    """Check the mining options against the model.

    Args:
        options: The mining options.
        card: The model's card; None if the model is not trained yet.
        model: The model's name for messages, or the localizer that will be trained.

    Raises:
        ModelError: The localizer or one of its options is unknown, a threshold is for a class that the model lacks, or
            the device does not compute with the precision.
    """
    refuse_int8_elsewhere(options.runtime, options.precision, on_cpu=options.device in ("auto", "cpu"))
    if card is not None and is_detector(card):
        refuse_map_options(options, card)
        select_classes(card, options)
        return
    options = resolve_thresholds(options)
    if options.localizer is not None:
        refuse_unknown_localizer(options.localizer)
    name = model.removeprefix(PRETRAINED) if model.startswith(PRETRAINED) else None
    trained = card.localizer if card is not None else model if name is None else default_localizer(name)
    options_of(options.localizer or trained, options.options)
    if name is not None and not has_linear_classifier(name):
        refuse_localizer_without_gradients(options.localizer or trained, name)
    refuse_files_of_pretrained(options, model)
    if card is not None or model.startswith(PRETRAINED):
        refinement(options, has_cells=card is not None and card.cells is not None)
    if card is not None:
        refuse_unknown_thresholds(options, select_classes(card, options), model)
