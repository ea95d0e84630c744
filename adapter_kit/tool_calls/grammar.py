"""What a grammar of tool calls is: marks, and how a call between them is written. Data only."""

from __future__ import annotations

import re

import msgspec

NAME_LETTER = r"[\w.\-/:]"
NAME = rf"{NAME_LETTER}++"
"""What the names of tools are made of, where nothing marks their end."""


class JsonObject(msgspec.Struct, frozen=True, kw_only=True):
    """`{"name": …, "arguments": {…}}`, its keys in any order."""

    names: frozenset[str] = frozenset({"name", "tool_name"})
    arguments: frozenset[str] = frozenset({"arguments", "parameters"})
    name_is_key: bool = False
    """Whether it is `{name: {…}}`."""


class NameThenJson(msgspec.Struct, frozen=True, kw_only=True):
    """A name, perhaps more, and an object of arguments."""

    head: re.Pattern[str]
    """All that stands before the object, with a group `name`."""
    id_letters: int = 0
    """How long an id is that may follow the name at once, where the engine leaves out the mark between."""


class Tagged(msgspec.Struct, frozen=True, kw_only=True):
    """Each argument between tags of its own, as it is: what it is by type, the schema of the tool says."""

    begin: str = ""
    """What stands before the head; where there is nothing, the head is a name."""
    head: re.Pattern[str] = re.compile(rf"""["']?(?P<name>{NAME})["']?""")
    head_end: str = ""
    end: str = ""
    """What stands behind a call; where there is nothing, the mark behind all of them."""
    key_begin: str
    key: re.Pattern[str] = re.compile(r"""["']?(?P<key>[^"']+)["']?""")
    """The key, in a group `key`. A group `string` says `true` where the value is a string, a group
    `type` what it is."""
    key_end: str
    value_begin: str = ""
    value_end: str
    cut_by: tuple[str, ...] = ()
    """What else a value ends with, of models that forget its end."""
    trims: bool = True
    """Whether a line break at either end of a value is layout."""
    guesses: bool = False
    """Whether a value of which the schema says nothing is JSON, if it can be."""
    escapes: bool = False
    """Whether quotes in names and keys are `&quot;`."""
    or_json: bool = False
    """Whether an object in JSON may stand in place of the tags."""


class PythonCall(msgspec.Struct, frozen=True, kw_only=True):
    """`name(argument=value, …)`"""

    listed: bool = False
    """Whether it is a call only in a list."""


class LooseObject(msgspec.Struct, frozen=True, kw_only=True):
    """A name, and an object whose keys have no quotes and whose strings have marks for them."""

    begin: str
    quote: str


How = JsonObject | NameThenJson | Tagged | PythonCall | LooseObject


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """How a family of models sets its calls off from text, and writes them: one, several, or a list of them."""

    names: tuple[str, ...]
    """What settings call it; the first is its own, the others are what vLLM's parsers of the same are called."""
    families: str
    """The models that write so."""
    source: str = ""
    """Where it was read; nothing where it was written down from memory."""
    checked: str = ""
    """The day that the source was opened and compared with this."""
    sign: re.Pattern[str]
    """What shows in a chat template that it teaches this grammar."""
    how: tuple[How, ...]
    begin: tuple[str, ...] = ()
    """What stands before calls: any of these."""
    end: tuple[str, ...] = ()
    """What stands behind them: any of these, or nothing where the text is over."""
    between: tuple[str, ...] = ()
    """What stands between calls, and says nothing."""
    after: tuple[str, ...] = ()
    """What stands behind each call."""
    special: bool = False
    """Whether the marks are tokens that engines leave out of their text unless they are asked for them, and can be
    asked for in safety."""
    bare: bool = False
    """Whether a call of a known tool is one without its mark, where an answer or a line of it begins: engines leave
    marks out that are tokens of their own, and some models have none."""
    fenced: bool = False
    """Whether that which is bare may stand in a fence of Markdown."""
    silent: tuple[str, ...] = ()
    """Marks around the text of an answer, which are no text themselves."""
    echoes: bool = False
    """Whether models write calls once more behind their mark: nothing behind marks is a call without its mark."""
    prompted: str = ""
    """A mark that the prompt ends with, so that it is missing in the answer."""

    @property
    def name(self) -> str:
        return self.names[0]
