"""Which changes of settings make an image's labels stale."""

from mining.config import MineOptions
from mining.label_store.staleness import changed_settings, settings_that_matter


def test_settings_that_select_or_rename_classes_are_left_out_where_they_are_not_used() -> None:
    assert not {"classes", "map"} & set(settings_that_matter(MineOptions()))
    assert settings_that_matter(MineOptions(classes=("dog",)))["classes"] == ["dog"]


def test_selecting_or_renaming_classes_is_a_change_in_both_directions() -> None:
    plain = settings_that_matter(MineOptions())
    for options in (MineOptions(classes=("dog",)), MineOptions(map=("dog=wolf",))):
        selected = settings_that_matter(options)
        assert changed_settings(plain, selected, ["dog"]) == changed_settings(selected, plain, None) != []
        assert changed_settings(selected, selected, None) == []
    assert changed_settings(plain, plain, None) == []
