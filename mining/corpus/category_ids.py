"""The ids that annotations give to classes: from 1 on, because many trainers take 0 for the background."""

from collections.abc import Iterable, Mapping

_HIGHEST = 2**31 - 1  # what the tables hold


def category_ids(given: Mapping[str, int] | None, classes: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Class name to id, and a sentence where the ids are not those that were given.

    given: the listing's own ids; None where it has none for some class: the classes, sorted, are then 1, 2, ... Given
    ids are kept, or all raised by the same number where the lowest is below 1, so that their order and their gaps
    stay. Where one is more than a table holds, they are numbered anew in their order.
    """
    if not given:
        return {name: number for number, name in enumerate(sorted(classes), start=1)}, []
    lowest, highest = min(given.values()), max(given.values())
    raised = max(0, 1 - lowest)
    if highest + raised > _HIGHEST:
        order = sorted(given, key=lambda name: (given[name], name))
        sentence = (
            f"The category id {highest} is too high: the categories are numbered anew, from 1 on, in their order."
        )
        return {name: number for number, name in enumerate(order, start=1)}, [sentence]
    if not raised:
        return dict(given), []
    return {name: number + raised for name, number in given.items()}, [
        f"The category ids begin at {lowest}: all are raised by {raised}, because many trainers take 0 for background."
    ]
