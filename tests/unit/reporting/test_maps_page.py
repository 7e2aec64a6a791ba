"""The page that shows localizers side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mining.config import MapsSettings, parse
from mining.errors import CorpusError, InputError, ModelError
from mining.localizers.registry import LOCALIZERS
from mining.models.card import ModelCard
from mining.models.checkpoint import build_localizer, save_model
from mining.reporting.map_columns import draw_column, read_photo
from mining.reporting.maps_inputs import find_photos, plan_columns, short_names, split_models
from mining.reporting.maps_page import MapsSummary, write_maps_page
from tests.factories import register_tiny_backbone, write_photos
from tests.unit.reporting.conftest import CLASSES, NASTY, Page

SERVED = ["cam", "ccam", "gradcam", "gradcampp", "layercam", "msrd"]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    register_tiny_backbone(monkeypatch)


def write_model(folder: Path, classes: Sequence[str] = CLASSES, *, localizer: str = "cam", **options: Any) -> str:
    torch.manual_seed(0)
    listed = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    card = ModelCard(localizer, "tiny", "single", listed, input_size=32, normalisation={}, options=options)
    network = build_localizer(card)[0]
    save_model(folder, network, card)
    return str(folder)


def write(folder: Path, models: Sequence[str], images: Sequence[Any], **options: Any) -> tuple[MapsSummary, Page]:
    values = {"models": models, "images": images, "out": folder / "page.html", "device": "cpu", **options}
    summary = write_maps_page(parse(MapsSettings, values))
    return summary, Page(summary.page.read_text(encoding="utf-8"))


def labels_of(page: Page) -> list[str]:
    """The text alternatives of all pictures."""
    return [a["aria-label"] or "" for a in page.of("div", "photo")] + [
        a["alt"] or "" for a in page.of("img", "product")
    ]


def test_the_localizers_of_a_model_stand_side_by_side(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [NASTY, "b.jpg"])
    summary, page = write(tmp_path, [write_model(tmp_path / "model")], [photos])
    assert (summary.images, summary.localizers, summary.skipped, summary.notes) == (2, 6, [], [])
    rows = (
        "refined by the walk",
        "refined by the normalised cut",
        "not refined, sum of scales",
        "scale 1",
        "scale 1.5",
        "scale 2",
    )
    for name in (NASTY, "b.jpg"):
        for localizer in SERVED:
            for row in rows:
                found = [text for text in labels_of(page) if text.startswith(f"{name}, {localizer}, {row}: ")]
                assert len(found) == 1
                assert found[0].partition(": ")[2].startswith(CLASSES), "class, probability and score"
                assert " %, " in found[0]


def test_the_page_needs_no_network_and_no_script_and_escapes_names(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [NASTY])
    _, page = write(tmp_path, [write_model(tmp_path / "model")], [photos], localizers="msrd")
    assert not page.of("script")
    assert NASTY in page.text
    assert "http" not in page.html.replace("http-equiv", "")
    sources = [a["src"] for a in page.of("img")]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert any("default-src 'none'" in (a.get("content") or "") for a in page.of("meta"))


def test_every_picture_has_a_text_alternative_and_every_table_is_reached_by_keyboard(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    _, page = write(tmp_path, [write_model(tmp_path / "model")], [photos])
    assert all(a.get("role") == "img" and a.get("aria-label") for a in page.of("div", "photo"))
    assert all(a.get("alt") for a in page.of("img", "product"))
    regions = page.of("div", "scroll")
    assert regions
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)


@pytest.mark.parametrize(
    ("localizer", "options", "expected"),
    [
        ("layercam", {}, ["conv5"]),
        ("msrd", {}, ["conv5", "conv5+conv4", "image x conv5", "image x conv5+conv4"]),
        ("ccam", {}, ["rank 1 of 2, weight 1 ", "rank 2 of 2, weight -1 ", "combined"]),
        ("spg", {"width": 8, "guidance_width": 8}, ["A", "mask of A", "B2", "mask of B2", "B1", "C"]),
        ("ornet", {"depth": 1}, ["p^a", "image x p^a evaluator: "]),
    ],
)
def test_what_a_method_computes_on_the_way_is_shown(
    localizer: str, options: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    model = write_model(tmp_path / "model", localizer=localizer, **options)
    _, page = write(tmp_path, [model], [photos], localizers=localizer)
    shown = [text for text in labels_of(page) if text.startswith(f"a.jpg, {localizer}: ")]
    for one in expected:
        assert any(text.removeprefix(f"a.jpg, {localizer}: ").startswith(one) for text in shown), (one, shown)


def test_the_evaluators_verdict_names_both_probabilities(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    _, page = write(tmp_path, [write_model(tmp_path / "model", localizer="ornet", depth=1)], [photos], classes=["dog"])
    assert "evaluator: dog" in page.text
    assert "% here" in page.text
    assert "% unmasked" in page.text


@pytest.mark.parametrize("localizer", LOCALIZERS)
def test_every_localizer_of_the_registry_can_be_drawn(localizer: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    listed = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    card = ModelCard(localizer, "efficientnet_lite0", "single", listed, input_size=64, normalisation={})
    save_model(tmp_path / "model", build_localizer(card)[0], card)
    photo = write_photos(tmp_path / "photos", ["a.jpg"]) / "a.jpg"
    settings = parse(MapsSettings, {"models": str(tmp_path / "model"), "images": photo, "out": tmp_path / "p.html",
                                    "localizers": localizer, "scales": 1})  # fmt: skip
    (column,) = plan_columns(settings)
    drawn = draw_column(column, settings, [read_photo(photo)], lambda: None)
    (cell,) = drawn.cells.values()
    assert {"Refined by the walk", "Refined by the normalised cut", "Not refined, sum of scales"} <= set(cell.pictures)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_the_most_probable_classes_or_those_asked_for_are_mapped(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    model = write_model(tmp_path / "model", ["cat", "dog", "cow"])
    _, page = write(tmp_path, [model], [photos], localizers="cam", max_classes=2)
    assert "most probable class" in page.text
    assert "class of rank 2" in page.text
    _, page = write(tmp_path, [model], [photos], localizers="cam", classes=["cow", "cat"])
    rows = [text for text in labels_of(page) if "scale 1:" in text]
    assert [text.partition(": ")[2].split()[0] for text in rows] == ["cow", "cat"]


def test_a_class_that_no_model_knows_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    models = [write_model(tmp_path / name, own) for name, own in (("one", ["cat", "dog"]), ("two", ["cow", "dog"]))]
    with pytest.raises(ModelError, match=r"The model does not know the class 'dig': did you mean 'dog'\?"):
        write(tmp_path, models[:1], [photos], classes=["dig"])
    with pytest.raises(ModelError, match=r"None of the models knows the class 'coww': did you mean 'cow'\?"):
        write(tmp_path, models, [photos], classes=["coww"])


def test_a_class_that_one_of_the_models_knows_is_mapped_by_that_one(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    models = [write_model(tmp_path / name, own) for name, own in (("one", ["cat", "dog"]), ("two", ["cow", "dog"]))]
    summary, page = write(tmp_path, models, [photos], classes=["cow"])
    assert summary.localizers == 2
    assert "The model does not know cow." in page.text
    assert sum("cow" in text for text in labels_of(page)) >= 5


# --- models and localizers -------------------------------------------------------------------------------------------


def settings(models: Sequence[str], **options: Any) -> MapsSettings:
    return parse(MapsSettings, {"models": models, "images": ["a.jpg"], "out": "page.html", **options})


def test_several_models_have_their_own_localizers_unless_others_are_asked_for(tmp_path: Path) -> None:
    models = [
        write_model(tmp_path / "a" / "model"),
        write_model(tmp_path / "b" / "model", localizer="ornet", depth=1),
    ]
    columns = plan_columns(settings(models))
    assert [(one.model_name, one.localizer, one.is_own) for one in columns] == [
        ("a/model", "cam", True), ("b/model", "ornet", True),
    ]  # fmt: skip
    columns = plan_columns(settings(models, localizers="msrd,layercam"))
    assert [one.localizer for one in columns] == ["msrd", "layercam", "ornet"]
    assert [one.localizer for one in plan_columns(settings(models[:1]))] == SERVED


def test_an_unmodified_network_with_a_head_of_its_own_is_drawn_by_its_gradients() -> None:
    columns = plan_columns(settings(["pretrained:vgg11"]))
    assert [one.localizer for one in columns] == ["gradcam", "gradcampp", "layercam", "msrd"]
    assert [one.is_own for one in columns] == [True, False, False, False]


def test_a_localizer_that_no_weights_serve_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    with pytest.raises(ModelError, match=r"The weights given serve cam, ccam, .*, not spg\. .*--localizer spg"):
        plan_columns(settings([model], localizers=["cam", "spg"]))
    with pytest.raises(ModelError, match=r"Unknown localizer 'layercm': did you mean 'layercam'\?"):
        plan_columns(settings([model], localizers="layercm"))


def test_a_model_is_a_folder_with_a_card_or_a_pretrained_network(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    models, images = split_models(model, ["pretrained:vgg16", str(photos), str(photos / "a.jpg")])
    assert models == [model, "pretrained:vgg16"]
    assert images == [photos, photos / "a.jpg"]
    with pytest.raises(InputError, match="Give image files or folders of images"):
        split_models(model, ["pretrained:vgg16"])


def test_a_file_named_like_a_pretrained_network_is_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Path("pretrained:a.jpg").write_bytes(b"")
    assert split_models(model, ["pretrained:a.jpg"]) == ([model], [Path("pretrained:a.jpg")])


def test_images_before_models_are_refused_with_the_order(tmp_path: Path) -> None:
    model, photos = write_model(tmp_path / "model"), write_photos(tmp_path / "photos", ["a.jpg"])
    for rest in ([model], [model, str(photos)]):
        with pytest.raises(InputError, match=r"photos has no model\.json, .* Give the models first, then the images\."):
            split_models(str(photos), rest)


def test_a_page_below_a_file_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    values = {"models": ["none"], "images": [photos], "out": photos / "a.jpg" / "deep" / "page.html"}
    with pytest.raises(InputError, match="a folder above it is a file"):
        write_maps_page(parse(MapsSettings, values))


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names(["m/cam", "m/spg/"]) == {"m/cam": "cam", "m/spg/": "spg"}
    assert short_names(["a/run/model", "b/run/model"]) == {"a/run/model": "a/run/model", "b/run/model": "b/run/model"}
    assert short_names(["pretrained:vgg16", "x/pretrained:vgg16"])["pretrained:vgg16"] == "pretrained:vgg16"


# --- images ----------------------------------------------------------------------------------------------------------


def test_of_many_images_some_are_shown_evenly_spaced_and_the_page_says_so(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [f"{number:02d}.jpg" for number in range(10)])
    values = {"models": ["m"], "images": [photos], "out": "p.html", "max_images": 5}
    shown, notes = find_photos(parse(MapsSettings, values))
    assert [path.name for path in shown] == ["00.jpg", "02.jpg", "04.jpg", "06.jpg", "08.jpg"]
    assert notes == ["5 of 10 images are shown, evenly spaced in the order given; see --max-images."]
    _, page = write(tmp_path, [write_model(tmp_path / "model")], [photos], localizers="cam", max_images=1)
    assert "1 of 10 images are shown" in page.text


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg", "c.jpg"])
    (photos / "b.jpg").write_bytes(b"no image")
    model = write_model(tmp_path / "model")
    summary, page = write(tmp_path, [model], [photos], localizers="cam")
    assert summary.images == 2
    assert len(summary.skipped) == 1
    assert "b.jpg: not an image" in summary.skipped[0]
    assert "1 image could not be read" in page.text
    with pytest.raises(CorpusError, match=r"The image cannot be read: .*b\.jpg"):
        write(tmp_path, [model], [photos / "b.jpg"])


def test_an_image_that_is_missing_and_a_folder_without_images_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"dog\.jpg does not exist"):
        write(tmp_path, [model], [tmp_path / "dog.jpg"])
    with pytest.raises(CorpusError, match=r"There is no image in .*empty"):
        write(tmp_path, [model], [tmp_path / "empty"])


def test_the_page_replaces_its_like_only(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    model = write_model(tmp_path / "model")
    for _ in range(2):
        write(tmp_path, [model], [photos], localizers="cam")
    (tmp_path / "page.html").write_text("theirs")
    with pytest.raises(InputError, match="is there already and is not a maps page of boxmine"):
        write(tmp_path, [model], [photos], localizers="cam")
    with pytest.raises(InputError, match=r"must end in \.html"):
        write(tmp_path, [model], [photos], out=tmp_path / "page.pdf")
    assert (tmp_path / "page.html").read_text() == "theirs"


def test_damaged_weights_are_an_error_of_the_model(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", ["a.jpg"])
    torch.manual_seed(0)
    listed = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    card = ModelCard("cam", "tiny", "single", listed, input_size=32, normalisation={})
    network = build_localizer(card)[0]
    torch.nn.init.constant_(network.classifier.weight, float("nan"))
    save_model(tmp_path / "model", network, card)
    with pytest.raises(ModelError, match=r"cam of .*model.*NaN"):
        write(tmp_path, [str(tmp_path / "model")], [photos], localizers="cam")


def test_a_constant_map_is_said_to_be_one(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(tmp_path / "grey.png")
    torch.manual_seed(0)
    listed = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    card = ModelCard("cam", "tiny", "single", listed, input_size=32, normalisation={})
    network = build_localizer(card)[0]
    torch.nn.init.zeros_(network.classifier.weight)
    save_model(tmp_path / "model", network, card)
    _, page = write(tmp_path, [str(tmp_path / "model")], [tmp_path / "grey.png"], localizers="cam")
    assert page.text.count("no box; the map is constant or nowhere above 0") == 6
