"""What a typed line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker_adapter.chat.line import Command, Question, paths_in, read_line
from worker_adapter.chat.slash_commands import NAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat.jpg", "my cat (1).PNG", "it's a dog.webp", "notes.txt", "photo.HEIC"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(line: str) -> Command | Question:
    return read_line(line, NAMES)


@pytest.mark.spec("ORCH-3070-018")
@pytest.mark.parametrize(
    "line, text, names",
    [
        ("{0}/cat.jpg", "", ["cat.jpg"]),
        ("  {0}/cat.jpg  ", "", ["cat.jpg"]),
        ("'{0}/my cat (1).PNG' ", "", ["my cat (1).PNG"]),
        ('"{0}/my cat (1).PNG"', "", ["my cat (1).PNG"]),
        (r"{0}/my\ cat\ \(1\).PNG ", "", ["my cat (1).PNG"]),
        ("{0}/my cat (1).PNG", "", ["my cat (1).PNG"]),
        (r"'{0}/it'\''s a dog.webp'", "", ["it's a dog.webp"]),
        ("file://{0}/my%20cat%20(1).PNG", "", ["my cat (1).PNG"]),
        ("""'{0}/it'"'"'s a dog.webp'""", "", ["it's a dog.webp"]),
        ("file://localhost{0}/my%20cat%20(1).PNG", "", ["my cat (1).PNG"]),
        ("{0}/my cat (1).PNG?", "", ["my cat (1).PNG"]),
        ("Who is on '{0}/my cat (1).PNG'?", "Who is on", ["my cat (1).PNG"]),
        ('Look: "{0}/my cat (1).PNG"!', "Look:", ["my cat (1).PNG"]),
        ("{0}/photo.HEIC", "", ["photo.HEIC"]),
        ("What is in {0}/cat.jpg?", "What is in", ["cat.jpg"]),
        ("{0}/cat.jpg and '{0}/my cat (1).PNG' differ how?", "and differ how?", ["cat.jpg", "my cat (1).PNG"]),
        (r"What's on {0}/my\ cat\ \(1\).PNG, isn't it?", "What's on isn't it?", ["my cat (1).PNG"]),
    ],
)
def test_paths_to_pictures_as_terminals_paste_them_are_pictures(
    line: str, text: str, names: list[str], folder: Path
) -> None:
    assert read(line.format(folder)) == Question(text, tuple(f"{folder}/{name}" for name in names))


@pytest.mark.parametrize(
    "line",
    [
        "What is in cat.jpg?",
        "It's 3/4 of 'this' and \"that\"\\ ",
        "Read {0}/notes.txt",
        "Where is {0}/none.jpg?",
        "See file://elsewhere{0}/cat.jpg",
        "See file://[x{0}/cat.jpg",
        "two  blanks,\nand a break",
        "/" + "x" * 5000 + ".jpg is long",
    ],
)
def test_everything_else_is_the_question_as_it_stands(line: str, folder: Path) -> None:
    line = line.format(folder)

    assert read(line) == Question(line.strip())


@pytest.mark.parametrize(
    "line, name, rest",
    [
        ("/clear", "clear", ""),
        (" /system  Be brief. ", "system", "Be brief."),
        ("/sytem Be brief", "sytem", "Be brief"),
        ("/save chat.md", "save", "chat.md"),
    ],
)
def test_a_line_that_begins_with_a_slash_and_a_word_is_a_command(line: str, name: str, rest: str) -> None:
    assert read(line) == Command(name, rest)


def test_two_slashes_begin_a_question_with_one() -> None:
    assert read("//etc/passwd is what?") == Question("/etc/passwd is what?")


def test_a_path_after_a_command_may_have_blanks_or_be_one_of_several(folder: Path) -> None:
    assert paths_in(f"{folder}/my cat (1).PNG") == (f"{folder}/my cat (1).PNG",)
    assert paths_in(f"'{folder}/my cat (1).PNG' {folder}/cat.jpg") == (
        f"{folder}/my cat (1).PNG",
        f"{folder}/cat.jpg",
    )
    assert paths_in("") == ()
