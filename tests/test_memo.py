"""What is remembered of texts, and for how long."""

from __future__ import annotations

import pytest

from stillfresh.memo import brief, remembered

ROOM = 1 << 15
SHORT = "x" * 900
LONG = "x" * 1025


class Found(list[object]):
    """Finds something out about a text, and keeps count of when it had to."""

    def __call__(self, text: str) -> int:
        self.append(text)
        return len(text)

    def together(self, texts: tuple[str, ...]) -> int:
        self.append(texts)
        return sum(map(len, texts))


def test_what_is_asked_again_is_found_out_once() -> None:
    found = Found()
    length = remembered()(found)
    assert [length("abc"), length("abc"), length(""), length("")] == [3, 3, 0, 0]
    assert found == ["abc", ""]


def test_what_is_long_is_found_out_each_time() -> None:
    found = Found()
    length = remembered()(found)
    assert [length(text) for text in (SHORT, SHORT, LONG, LONG)] == [900, 900, 1025, 1025]
    assert found == [SHORT, LONG, LONG]


@pytest.mark.parametrize("texts", [(LONG,), ("", LONG), (SHORT, SHORT), ("",) * 1000], ids=len)
def test_so_are_many_together(texts: tuple[str, ...]) -> None:
    found = Found()
    length = remembered()(found.together)
    assert length(("a", "b")) == length(("a", "b")) == 2
    assert length(texts) == length(texts)
    assert found == [("a", "b"), texts, texts]


def test_where_there_is_more_room_longer_ones_are_remembered() -> None:
    found = Found()
    length = remembered(2 * ROOM)(found)
    assert length(LONG) == length(LONG)
    assert found == [LONG]


def test_when_the_room_is_used_up_all_is_forgotten() -> None:
    found = Found()
    length = remembered()(found)
    texts = [f"{number:900}" for number in range(100)]
    for text in texts:
        assert length(text) == length(text) == 900
    assert len(found) == len(texts)
    # The last one is there, and no more than there is room for.
    assert length(texts[-1]) == 900
    assert len(found) == len(texts)
    for text in reversed(texts):
        assert length(text) == 900
    assert len(found) >= 2 * len(texts) - ROOM // 900


def test_short_ones_take_room_as_well() -> None:
    found = Found()
    length = remembered()(found)
    for _ in range(2):
        for number in range(ROOM // 16):
            length(str(number))
    assert len(found) > ROOM // 16


def test_what_is_none_is_remembered() -> None:
    asked: list[str] = []

    @remembered()
    def nothing(text: str) -> str | None:
        asked.append(text)
        return None

    assert [nothing("a"), nothing("a")] == [None, None]
    assert asked == ["a"]


def test_what_is_raised_is_not_remembered() -> None:
    asked: list[str] = []

    @remembered()
    def refuse(text: str) -> int:
        asked.append(text)
        raise ValueError(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="abc"):
            refuse("abc")
    assert asked == ["abc", "abc"]


def test_functions_remember_apart() -> None:
    assert remembered()(str.upper)("a") == "A"
    assert remembered()(str.title)("a b") == "A B"


def test_a_short_text_stands_for_itself() -> None:
    assert brief("") == ""
    assert brief("https://example.org/") == "https://example.org/"


def test_a_long_one_is_stood_for_by_a_short_one_of_its_own() -> None:
    texts = [LONG, LONG + "x", LONG.upper(), "\udc80" * 300, "é" * 300]
    stand_ins = [brief(text) for text in texts]
    assert len(set(stand_ins)) == len(texts)
    assert all(len(text) < 64 for text in stand_ins)
    assert [brief(text) for text in texts] == stand_ins
