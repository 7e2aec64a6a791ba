"""A folder of VOC XML as the listing."""

import pytest

from mining.errors import CorpusError


@pytest.fixture
def xml(tmp_path):
    def written(name, *objects, filename=None, size=(8, 6)):
        path = tmp_path / "Annotations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        found = "".join(
            f"<object><name>{o}</name><part><name>head</name></part>"
            "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></object>"
            for o in objects
        )
        named = "" if filename is None else f"<filename>{filename}</filename>"
        sized = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
        path.write_text(f"<annotation>{named}{sized}{found}</annotation>", encoding="utf-8")
        return tmp_path / "Annotations"

    return written


def test_objects_become_labels(photos, scanned, xml):
    xml("1.xml", "dog", "cat", "dog", filename="b.jpg")
    labels = xml("2.xml", filename="a.jpg")
    summary, rows = scanned(photos("a.jpg", "b.jpg"), labels)
    assert summary.kind == "voc"
    assert [(r["file_name"], r["labels"], r["width"], r["height"]) for r in rows] == [
        ("a.jpg", [], 8, 6),
        ("b.jpg", ["cat", "dog"], 8, 6),
    ]


@pytest.mark.parametrize("size", [(0, 0), (8, 0), ("", ""), ("wide", "high")])
def test_an_invalid_size_stays_unknown(photos, scanned, xml, size):
    row = scanned(photos("a.jpg"), xml("a.xml", "cat", filename="a.jpg", size=size))[1][0]
    assert (row["width"], row["height"]) == (None, None)


def test_a_filename_without_a_suffix_is_found(photos, scanned, xml):
    _, rows = scanned(photos("n01/n01_1.JPEG"), xml("n01/n01_1.xml", "fish", filename="n01_1"))
    assert [r["file_name"] for r in rows] == ["n01/n01_1.JPEG"]
    assert rows[0]["bytes"] is not None


def test_without_a_filename_the_name_of_the_xml_is_used(photos, scanned, xml):
    assert scanned(photos("b.png"), xml("b.xml", "cat"))[1][0]["file_name"] == "b.png"


def test_an_xml_in_a_subfolder_may_name_an_image_of_the_root(photos, scanned, xml):
    assert scanned(photos("a.jpg"), xml("batch1/a.xml", "cat", filename="a.jpg"))[1][0]["file_name"] == "a.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", r"bad.xml is not XML that can be read"),
        ("", r"bad.xml is not XML that can be read"),
        ("<html></html>", r"bad.xml is not VOC XML"),
        (
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><filename>&e;</filename></annotation>',
            r"bad.xml is not XML that can be read",
        ),
        ("<annotation><filename>../a.jpg</filename></annotation>", r"bad.xml: '../a.jpg' leads out of"),
        ("<?xml version='1.0' encoding='nonsense'?><annotation/>", r"bad.xml is not XML that can be read"),
    ],
)
def test_the_error_for_a_malformed_xml_names_the_file(photos, scanned, tmp_path, text, message):
    (tmp_path / "xml").mkdir()
    (tmp_path / "xml" / "bad.xml").write_text(text)
    with pytest.raises(CorpusError, match=message):
        scanned(photos("a.jpg"), tmp_path / "xml")
