"""Schemas of a run's tables: annotations (one row per box), curves and rankings; units and meanings are metadata."""

import pyarrow as pa

from mining.config.mine import CURVE_THRESHOLDS


def described_field(name: str, kind: pa.DataType, unit: str, meaning: str, *, nullable: bool = False) -> pa.Field:
    """Describe a column of a table: its name, type, unit and meaning."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


ANNOTATION_SCHEMA = pa.schema(
    [
        described_field(
            "annotation_id",
            pa.int64(),
            "",
            "unique; 1, 2, ... in the order of the corpus, best score first within an image, unless boxes were "
            "corrected since they were mined",
        ),
        described_field("image_id", pa.int64(), "", "as in corpus.parquet"),
        described_field("file_name", pa.string(), "", "path below the image root, with '/'"),
        described_field("width", pa.int32(), "px", "image size, EXIF orientation applied"),
        described_field("height", pa.int32(), "px", "image size, EXIF orientation applied"),
        described_field("category_id", pa.int32(), "", "as in the model's classes"),
        described_field("category", pa.string(), "", "class name"),
        described_field("x", pa.float32(), "px", "left edge of the box in the oriented image"),
        described_field("y", pa.float32(), "px", "top edge of the box in the oriented image"),
        described_field("w", pa.float32(), "px", "width of the box"),
        described_field("h", pa.float32(), "px", "height of the box"),
        described_field("area", pa.float32(), "px^2", "w * h"),
        described_field(
            "score",
            pa.float32(),
            "0-1",
            "by which boxes are ranked and filtered; not a probability. Of maps refined by a cell classifier: "
            "mean_probability * (cut_agreement + map_agreement) / 2, times class_score if the class was not given; of a "
            "part (is_part), 0.3 * the lower of that and the score of its region. Of other maps: class_score * peak. With "
            "--rank-by area, of all maps: class_score * the region's area as a share of that of the map's largest "
            "region. Of imported boxes: as the file states it, or 1 if it states none; of boxes that a person made: 1",
        ),
        described_field(
            "class_score",
            pa.float32(),
            "0-1",
            "probability of the class for the whole image, at the scale nearest to 1; at the middle scale for labelled "
            "images mined with an adaptive pyramid; with --class-crops 10, the mean over the crops. Of the category object: that of one of the five most probable "
            "classes. NaN for a box that was not mined",
        ),
        described_field(
            "peak",
            pa.float32(),
            "0-1",
            "highest normalised activation inside the region; 1 for the map's strongest region; NaN for a box that was not mined",
        ),
        described_field(
            "mean_activation", pa.float32(), "0-1", "mean normalised activation of the region's pixels; NaN likewise"
        ),
        described_field("threshold", pa.float32(), "0-1", "threshold on the normalised map; NaN likewise"),
        described_field(
            "scales",
            pa.list_(pa.float32()),
            "",
            "scales of the forward passes, in multiples of the model's input size; none for a box that was not mined",
        ),
        described_field(
            "localizer", pa.string(), "", "name of the method; import or human for a box that was not mined"
        ),
        described_field(
            "model_sha256", pa.string(), "", "SHA-256 of the model's weights file; empty for a box that was not mined"
        ),
        described_field("merged_from", pa.int32(), "", "number of boxes merged into this one; 1 = not merged"),
        described_field(
            "source",
            pa.string(),
            "",
            "label = the class was given for the image; prediction = the classifier predicted it; object = no class was "
            "probable enough, and --object-boxes was given; import = another tool made the "
            "box; human = a person drew, moved or renamed it",
        ),
        described_field(
            "refinement",
            pa.string(),
            "",
            "how the map was refined: cells = by the cell classifier, walk = by the affinity walk, cut = by normalised "
            "cuts, none; null if an earlier version mined the box",
            nullable=True,
        ),
        described_field(
            "mean_probability",
            pa.float32(),
            "0-1",
            "mean probability of the class against the image's other classes and the background, over the region's "
            "pixels; null unless the map was refined by a cell classifier",
            nullable=True,
        ),
        described_field(
            "cut_agreement",
            pa.float32(),
            "0-1",
            "highest IoU with a box of the same map at a threshold of 0.8; null likewise",
            nullable=True,
        ),
        described_field(
            "map_agreement",
            pa.float32(),
            "0-1",
            "highest IoU with a box of the localizer's own map, spread by the walk, at a threshold of 0.4; null likewise",
            nullable=True,
        ),
        described_field(
            "is_part",
            pa.bool_(),
            "",
            "whether the box is a part of a region whose own box is listed too (see --parts); null if an earlier "
            "version mined the box",
            nullable=True,
        ),
    ]
)


CURVE_SCHEMA = pa.schema(
    [
        described_field("image_id", pa.int64(), "", "as in corpus.parquet"),
        described_field("category_id", pa.int32(), "", "as in the model's classes"),
        described_field("width", pa.int32(), "px", "image size, EXIF orientation applied"),
        described_field("height", pa.int32(), "px", "image size, EXIF orientation applied"),
        described_field("map_width", pa.uint16(), "px", "map size; the map covers the whole image"),
        described_field("map_height", pa.uint16(), "px", "map size; the map covers the whole image"),
        described_field("otsu", pa.float32(), "0-1", "Otsu's threshold; 0 for a constant map"),
        described_field("entropy", pa.float32(), "0-1", "Kapur's maximum-entropy threshold; 0 for a constant map"),
        described_field(
            "xyxy", pa.list_(pa.uint16(), 4 * len(CURVE_THRESHOLDS)), "map px",
            f"left, top, right, bottom of the box with the highest score at each of the thresholds {CURVE_THRESHOLDS[0]}, "
            f"{CURVE_THRESHOLDS[1]}, ... {CURVE_THRESHOLDS[-1]}; half-open; 0, 0, 0, 0 without a box",
        ),
        described_field(
            "boxes", pa.list_(pa.uint8(), len(CURVE_THRESHOLDS)), "",
            "number of boxes before merging at each threshold; 255 for more",
        ),
    ],
    metadata={"thresholds": ",".join(map(str, CURVE_THRESHOLDS))},
)  # fmt: skip

RANKING_SCHEMA = pa.schema(
    [
        described_field("image_id", pa.int64(), "", "as in corpus.parquet"),
        described_field(
            "category_ids", pa.list_(pa.int32()), "", "the most probable classes, highest probability first"
        ),
        described_field("probabilities", pa.list_(pa.float32()), "0-1", "their probabilities, as in class_score"),
    ]
)
