"""`[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, as Mistral's models write, and `[TOOL_CALLS]name[ARGS]{…}`, as the
newer ones do."""

from adapter_kit.tool_calls.marked_json import Marks

MISTRAL = Marks(begin="[TOOL_CALLS]", lists=True, names=True, unmarked=True)
