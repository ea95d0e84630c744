"""From the text that a model writes to the tool calls in it, while it is written.

Models that were taught to call tools write their calls into their text, each family in its own grammar. A parser takes
the text piece by piece, wherever it was cut, and gives back what may be shown: text, and `ToolCallDelta`.

    parser = tool_call_parser("hermes", tools=[tool.name for tool in task.tools])
    for piece in stream:
        for part in parser.feed(piece):
            ...
    rest = parser.finish()

What only looks like a call, or breaks off before its arguments begin, is given back as the text that it is. From there
on arguments are given on as the model wrote them, valid or not. Whitespace around calls is layout, and left out unless
there is text beside it. Work is linear in the text, and what is held back has a bound.

`grammar_of` tells a grammar from a chat template. There is a file per grammar (`hermes.py`, `llama3.py`, `mistral.py`,
`pythonic.py`); `marked_json.py` reads JSON calls between marks, `json_call.py` one of them, and `parts.py` collects
what comes out.
"""

from adapter_kit.tool_calls.grammars import GRAMMARS, Grammar, grammar_of, tool_call_parser
from adapter_kit.tool_calls.parts import Part, ToolCallParser

__all__ = ["GRAMMARS", "Grammar", "Part", "ToolCallParser", "grammar_of", "tool_call_parser"]
