"""From the text that a model writes to the tool calls in it, while it is written.

Models that were taught to call tools write their calls into their text, each family in its own grammar. A parser takes
the text piece by piece, wherever it was cut, and gives back what may be shown: text, and `ToolCallDelta`.

    parser = tool_call_parser("hermes", tools={tool.name: tool.parameters for tool in task.tools})
    for piece in stream:
        for part in parser.feed(piece):
            ...
    rest = parser.finish()

What only looks like a call, or breaks off before its arguments begin, is given back as the text that it is. From there
on arguments are given on as the model wrote them, valid or not. Whitespace around calls is layout, and left out unless
there is text beside it. Work is linear in the text, and what is held back has a bound.

`found_in` tells a grammar from a chat template. A grammar is data (`grammar.py`), and there is a table of them
(`families/`): marks, and one of the few ways to write a call between them, each in a file of its own
(`json_object.py`, `name_then_json.py`, `tagged.py`, `python_call.py`, `loose_object.py`). `call_parser.py` finds calls
among text, `source.py` is how all of them read, and `parts.py` collects what comes out.
"""

from adapter_kit.tool_calls.families import BY_NAME, FAMILIES
from adapter_kit.tool_calls.found import Found, found_in
from adapter_kit.tool_calls.grammar import Grammar
from adapter_kit.tool_calls.parsing import tool_call_parser
from adapter_kit.tool_calls.parts import Part, ToolCallParser

__all__ = ["BY_NAME", "FAMILIES", "Found", "Grammar", "Part", "ToolCallParser", "found_in", "tool_call_parser"]
