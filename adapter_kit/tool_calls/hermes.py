"""`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes, Qwen 2.5 and 3, and many others write."""

from adapter_kit.tool_calls.marked_json import Marks

HERMES = Marks(begin="<tool_call>", end="</tool_call>")
