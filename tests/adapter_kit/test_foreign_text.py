"""Words of an engine made fit for people."""

from __future__ import annotations

import pytest

from adapter_kit.foreign_text import LIMIT, clean, one_line

no_spec = "how a foreign text looks is ours to choose; what must not be in it is ORCH-3058's, tested with an engine"


@pytest.mark.parametrize("said, shown", [
    ("one\ntwo\r\n\tthree", "one two three"),
    ("a\x1b[2Jb\x07\x00\x9b", "a[2Jb"),
    ("a\u202eb\u2066c\u2069\u200e\u061c", "abc"),
    ("a\u2028b\u2029c", "a b c"),
    ("a\u200b\ufeff\ud800\U000e0041b", "ab"),
    ("naïve 日本 🙂 👩\u200d💻", "naïve 日本 🙂 👩\u200d💻"),
])  # fmt: skip
def test_a_line_has_nothing_that_a_terminal_would_obey_or_nobody_would_see(said: str, shown: str) -> None:
    assert one_line(said) == shown


def test_a_line_has_an_end_and_is_read_no_further() -> None:
    assert one_line("a" * 10**7) == "a" * (LIMIT - 1) + "…"
    assert one_line("ab c", limit=3) == "ab…"


@pytest.mark.parametrize("said, shown", [
    ("cannot open /opt/models/m/1/model.py", "cannot open model.py"),
    ('Traceback (most recent call last):\n  File "/a/b.py", line 1, in f\n    x\nValueError: no', "ValueError: no"),
    ("it said 'a very private prompt' twice", "it said '…' twice"),
    ("it said A VERY PRIVATE, prompt", "it said …"),
])  # fmt: skip
def test_words_lose_paths_stacks_and_what_is_hidden(said: str, shown: str) -> None:
    assert clean(said, hide=["a very private prompt"]) == shown
