"""Errors keep their message when pickled, and never show credentials."""

import importlib
import json
import pickle
import pkgutil
from types import ModuleType

import pytest

import mining
import tasks
from flows.cli.output import print_json
from mining.errors import BoxmineError, DamagedPartError, InputError


def all_modules(package: ModuleType) -> None:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if "ray" not in found.name:  # an extra
            importlib.import_module(found.name)


def all_below(kind: type[BoxmineError]) -> list[type[BoxmineError]]:
    return [kind, *(found for below in kind.__subclasses__() for found in all_below(below))]


def test_every_error_survives_pickling() -> None:
    all_modules(mining)
    all_modules(tasks)
    kinds = set(all_below(BoxmineError))
    assert DamagedPartError in kinds
    for kind in kinds:
        error = kind("part-00003.parquet")
        error.add_note("In worker process 7")
        for _ in range(2):
            copy = pickle.loads(pickle.dumps(error))
            assert (type(copy), str(copy), copy.args) == (kind, str(error), error.args)
            assert copy.__notes__ == error.__notes__
            error = copy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://key:secret@bucket/labels", "s3://***@bucket/labels"),
        ("s3://AKIA:sec/r@t@bucket/labels", "s3://***@bucket/labels"),
        ("Cannot reach https://user:secret@host:9000/a?b=1 now", "Cannot reach https://***@host:9000/a?b=1 now"),
        ("https:/user:secret@host/photos", "https:/***@host/photos"),
        ("'ray://:secret@head:10001'", "'ray://***@head:10001'"),
        ("https://secret@host/x", "https://***@host/x"),
        ("https://host/x?a=1&X-Amz-Signature=secret&b=2", "https://host/x?a=1&X-Amz-Signature=***&b=2"),
        ("az://c?sig=secret", "az://c?sig=***"),
        ('{"aws_secret_access_key": "secret", "a": 1}', '{"aws_secret_access_key": "***", "a": 1}'),
        ("AWS_SECRET_ACCESS_KEY=secret", "AWS_SECRET_ACCESS_KEY=***"),
        ("PASSWORD: secret", "PASSWORD: ***"),
        ("host=db password=secret", "host=db password=***"),
        ("az://c/x?sig=secret&b=c&token=secret2", "az://c/x?sig=***&b=c&token=***"),
    ],
)
def test_a_password_in_an_address_is_never_shown(text: str, expected: str) -> None:
    assert str(InputError(text)) == expected
    assert str(InputError(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "photos/a@2x.jpg: no such file",
        "s3://bucket/labels and me@example.org",
        "http://127.0.0.1:4200/api",
        "token: '}' at line 3",
        "secret.png: no such file",
        '{"password": 12, "secret": 3}',
        "photos?key=1.jpg: no such file",
        "C:/photos/a.jpg",
        "Setting 'workers': Input should be less than or equal to 256 (got 100000).",
    ],
)
def test_text_without_credentials_is_shown_unchanged(text: str) -> None:
    assert str(InputError(text)) == text


def test_redacted_output_stays_valid_json(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"classes": {"secret": 12, "password": [1, "s3://key:secret@bucket/labels"]}}
    print_json(counts)
    assert json.loads(capsys.readouterr().out) == {"classes": {"secret": 12, "password": [1, "s3://***@bucket/labels"]}}
