"""`{"name": …, "parameters": {…}}`, as Llama 3.1 to 3.3 write: bare, or behind `<|python_tag|>`; several with `;` or
line breaks between them."""

from adapter_kit.tool_calls.marked_json import Marks

LLAMA3 = Marks(begin="<|python_tag|>", between=";", lists=True, unmarked=True)
