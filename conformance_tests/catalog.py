"""The requirements of `specs/`, and the catalog that carries them into the package.

    python -m conformance_tests.catalog --check|--write [--specs specs]

`specs/` is outside every package, so what the suite needs of it is committed here as `catalog.json`: `--write`
generates it, `--check` says whether it is fresh, and both refuse texts that break the rules of `specs/README.md`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec

from adapter_api import Capability

CATALOG = Path(__file__).with_name("catalog.json")

Keyword = Literal["MUST", "MUST NOT", "SHOULD", "SHOULD NOT"]
Verification = Literal["conformance", "test"]

ALWAYS = "always"
_CONDITIONS = frozenset({ALWAYS, *Capability})

_ID = r"ORCH-\d{4}-\d{3}"
_FILE = re.compile(r"^(?P<chapter>ORCH-\d{4})-[a-z-]+\.md$")
_TITLE = re.compile(r"^# (?P<title>.+)$", re.MULTILINE)
_HEADING = re.compile(r"^#### (?P<id>\S+)[ \t]*$", re.MULTILINE)
_NEXT_HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
_FIELDS = re.compile(r"^since: (?P<since>\S+) · when: (?P<when>\S+) · verify: (?P<verify>\S+)$", re.MULTILINE)
_WHY = re.compile(r"^Why: (?P<why>.+?)\s*\Z", re.MULTILINE | re.DOTALL)
_KEYWORD = re.compile(r"\*\*(MUST NOT|MUST|SHOULD NOT|SHOULD)\*\*")
_LOUD = re.compile(r"\b(MUST|SHOULD|SHALL|MAY|REQUIRED|RECOMMENDED|OPTIONAL)\b")
_WITHDRAWN = re.compile(rf"^- (?P<id>{_ID}) \(\d+\.\d+\.\d+\): \S", re.MULTILINE)


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One observable behaviour. `text` is the normative sentence, `why` commentary; `when` is "always" or a capability.

    verify: `conformance` when the suite shows it of anybody's adapter, `test` when this project's own tests show it.
    """

    id: str
    chapter: str
    text: str
    keyword: Keyword
    since: str
    when: str
    verify: Verification
    why: str
    file: str


class Chapter(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str
    file: str


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Every requirement there is, in the order of the chapters, and the IDs that are no more."""

    chapters: tuple[Chapter, ...]
    requirements: tuple[Requirement, ...]
    withdrawn: tuple[str, ...] = ()

    def __getitem__(self, id: str) -> Requirement:
        """Return the requirement of that ID; raises `KeyError`."""
        for requirement in self.requirements:
            if requirement.id == id:
                return requirement
        raise KeyError(id)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(requirement.id for requirement in self.requirements)


class Problem(NamedTuple):
    """Something that a specification file says wrongly."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def load(path: Path = CATALOG) -> Catalog:
    """Return the committed catalog."""
    return msgspec.json.decode(path.read_bytes(), type=Catalog)


def read_specs(folder: Path) -> tuple[Catalog, list[Problem]]:
    """Return what the chapters in `folder` say, and everything that is wrong with them."""
    chapters: list[Chapter] = []
    requirements: list[Requirement] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("ORCH-*.md")):
        chapter, found, wrong = _read_chapter(path)
        chapters += [chapter] if chapter else []
        requirements += found
        problems += wrong
    withdrawn_file = folder / "withdrawn.md"
    withdrawn = _WITHDRAWN.findall(withdrawn_file.read_text(encoding="utf-8")) if withdrawn_file.exists() else []
    catalog = Catalog(chapters=tuple(chapters), requirements=tuple(requirements), withdrawn=tuple(sorted(withdrawn)))
    return catalog, [*problems, *_number_problems(catalog)]


def encode(catalog: Catalog) -> bytes:
    """Return the committed form of a catalog."""
    return msgspec.json.format(msgspec.json.encode(catalog), indent=2) + b"\n"


def _read_chapter(path: Path) -> tuple[Chapter | None, list[Requirement], list[Problem]]:
    name, title = _FILE.match(path.name), _TITLE.search(text := path.read_text(encoding="utf-8"))
    if name is None or title is None:
        return (
            None,
            [],
            [Problem(path.name, 1, "a chapter is called ORCH-<number>-<subject>.md and begins with a title")],
        )
    requirements: list[Requirement] = []
    problems: list[Problem] = []
    for id, line, block in _blocks(text):
        parsed = _read_requirement(id, block, chapter=name["chapter"], file=path.name)
        if isinstance(parsed, Requirement):
            requirements.append(parsed)
        else:
            problems += [Problem(path.name, line, f"{id}: {message}") for message in parsed]
    chapter = Chapter(id=name["chapter"], title=title["title"].strip(), file=path.name)
    return chapter, requirements, problems


def _blocks(text: str) -> Iterator[tuple[str, int, str]]:
    """Yield ID, line number and text of each requirement."""
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        block = text[heading.end() : following.start() if following else len(text)]
        end = _NEXT_HEADING.search(block)
        yield heading["id"], text.count("\n", 0, heading.start()) + 1, block[: end.start()] if end else block


def _read_requirement(id: str, block: str, *, chapter: str, file: str) -> Requirement | list[str]:
    quoted = [line for line in block.splitlines() if line.startswith(">")]
    text = " ".join(line.lstrip("> ").strip() for line in quoted)
    keywords, fields, why = _KEYWORD.findall(text), _FIELDS.search(block), _WHY.search(block)
    wrong = list(_text_problems(id, text, keywords, chapter))
    if fields is None:
        wrong.append("lacks its line `since: … · when: … · verify: …`")
    else:
        wrong += _field_problems(**fields.groupdict())
    if why is None:
        wrong.append("lacks its reason, `Why: …`")
    if wrong or fields is None or why is None:
        return wrong
    return Requirement(
        id=id,
        chapter=chapter,
        text=text.replace("**", ""),
        keyword=cast(Keyword, keywords[0]),
        since=fields["since"],
        when=fields["when"],
        verify=cast(Verification, fields["verify"]),
        why=" ".join(why["why"].split()),
        file=file,
    )


def _text_problems(id: str, text: str, keywords: list[str], chapter: str) -> Iterator[str]:
    if not re.fullmatch(_ID, id):
        yield "is no ID: write <chapter>-<three digits>"
    elif not id.startswith(f"{chapter}-"):
        yield f"is in the wrong chapter: this file is {chapter}"
    if len(keywords) != 1:
        yield f"has {len(keywords)} bold keywords; one requirement has exactly one MUST, MUST NOT, SHOULD or SHOULD NOT"
    if loud := _LOUD.search(_KEYWORD.sub("", text)):
        yield f"has a second keyword, {loud[0]}, beside its bold one"
    if not text.endswith("."):
        yield "is not one sentence in a block quote that ends with a full stop"


def _field_problems(since: str, when: str, verify: str) -> Iterator[str]:
    if not re.fullmatch(r"\d+\.\d+\.\d+", since):
        yield f"since: {since!r} is no version"
    if when not in _CONDITIONS:
        yield f"when: {when!r} is neither `always` nor a capability ({', '.join(sorted(_CONDITIONS))})"
    if verify not in ("conformance", "test"):
        yield f"verify: {verify!r} is neither `conformance` nor `test`"


def _number_problems(catalog: Catalog) -> Iterator[Problem]:
    """A number is used once for ever: each up to a chapter's highest is in use, or withdrawn."""
    file_of = {chapter.id: chapter.file for chapter in catalog.chapters}
    seen: set[str] = set()
    for requirement in catalog.requirements:
        if requirement.id in seen:
            yield Problem(requirement.file, 1, f"{requirement.id} is there twice")
        if requirement.id in catalog.withdrawn:
            yield Problem(
                requirement.file, 1, f"{requirement.id} is withdrawn (withdrawn.md): take the next free number"
            )
        seen.add(requirement.id)
    for chapter in catalog.chapters:
        taken = {int(id[-3:]) for id in (*seen, *catalog.withdrawn) if id.startswith(f"{chapter.id}-")}
        for number in sorted(set(range(1, max(taken, default=0))) - taken):
            id = f"{chapter.id}-{number:03}"
            yield Problem(
                file_of[chapter.id], 1, f"{id} is missing: a requirement that is given up goes to withdrawn.md"
            )


def _committed_ids(path: Path) -> frozenset[str]:
    try:
        return load(path).ids
    except (OSError, msgspec.DecodeError):
        return frozenset()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance_tests.catalog", description="Check specs/.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="generate the catalog")
    action.add_argument("--check", action="store_true", help="say whether the committed catalog is fresh")
    parser.add_argument("--specs", type=Path, default=Path("specs"), help="the folder of the chapters")
    parser.add_argument("--catalog", type=Path, default=CATALOG, help="the catalog file")
    options = parser.parse_args(arguments)
    catalog, problems = read_specs(options.specs)
    committed = _committed_ids(options.catalog)
    lost = sorted(committed - catalog.ids - set(catalog.withdrawn))
    complaints = [str(problem) for problem in problems]
    if not catalog.requirements:
        complaints.append(f"{options.specs}: no requirement found")
    complaints += [f"{id} is in the catalog and not in the specs: enter it in withdrawn.md" for id in lost]
    if not complaints and options.write:
        options.catalog.write_bytes(encode(catalog))
    elif not complaints and (not options.catalog.exists() or options.catalog.read_bytes() != encode(catalog)):
        complaints.append(f"{options.catalog.name} is stale: run `make catalog` and commit the result")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
