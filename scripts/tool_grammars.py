"""Write the tables in docs/tool-calls.md from the grammars that are known; `--check` says whether they are fresh."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from table_page import ROOT, with_table, write_or_check

from adapter_kit.thoughts import THOUGHTS
from adapter_kit.tool_calls import FAMILIES, Grammar
from adapter_kit.tool_calls.grammar import How, JsonObject, LooseObject, NameThenJson, PythonCall, Tagged

PAGE = ROOT / "docs" / "tool-calls.md"


def shape(how: How) -> str:
    """Return in a few words how a call is written."""
    match how:
        case JsonObject() if how.name_is_key:
            return "an object in JSON, whose key is the name"
        case JsonObject():
            return "an object in JSON"
        case NameThenJson():
            return "a name, then arguments in JSON"
        case Tagged():
            return f"arguments between {code(how.key_begin)} and {code(how.value_end)}"
        case PythonCall():
            return "a call in Python"
        case LooseObject():
            return f"an object with {code(how.quote)} for quotes"


def code(text: str) -> str:
    """Return a text as it may stand in a cell."""
    shown = text.replace("\n", "\\n").replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def where(source: str) -> str:
    """Return a link to where a format was read."""
    if not source:
        return "from memory, not checked"
    parts = source.removeprefix("https://").split("/")
    return f"[{parts[2] if parts[0] == 'github.com' else parts[0]}: {parts[-1]}]({source})"


def marks(grammar: Grammar) -> str:
    said = [code(grammar.begin[0])] if grammar.begin else []
    said += ["…", code((*grammar.end, *grammar.after)[0])] if grammar.end or grammar.after else ["…"]
    return " ".join(said) + (", or bare" if grammar.bare else "")


def rows() -> Iterator[str]:
    """Yield the lines of both tables."""
    yield from (
        "| `tool_parser` | also | models | marks | a call is | see | checked |",
        "|---|---|---|---|---|---|---|",
    )
    for each in sorted(FAMILIES, key=lambda grammar: grammar.name):
        also = ", ".join(map(code, each.names[1:]))
        how = "; or ".join(map(shape, each.how))
        said = f"{code(each.name)} | {also} | {each.families} | {marks(each)} | {how}"
        yield f"| {said} | {where(each.source)} | {each.checked} |"
    yield from ("", "| `reasoning_parser` | also | models | marks | see | checked |", "|---|---|---|---|---|---|")
    for thoughts in sorted(THOUGHTS, key=lambda each: each.name):
        also = ", ".join(map(code, thoughts.names[1:]))
        shown = f"{code(thoughts.begin[0])} … {code(thoughts.end[0])}"
        yield (
            f"| {code(thoughts.name)} | {also} | {thoughts.families} | {shown} | {where(thoughts.source)} | "
            f"{thoughts.checked} |"
        )


def fresh(page: str) -> str:
    """Return the page with the tables as they should be."""
    return with_table(page, "\n".join([*rows(), ""]))


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, fresh, sys.argv[1:]))
