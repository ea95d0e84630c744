"""The grammars that are known. A family of models that writes otherwise is one more entry in one of these files.

They stand in the order in which a template is asked for them: some templates of one family quote another's words, and
what has fewer marks comes later.
"""

from adapter_kit.tool_calls.families.in_code import IN_CODE
from adapter_kit.tool_calls.families.in_json import IN_JSON, LLAMA3
from adapter_kit.tool_calls.families.named import NAMED
from adapter_kit.tool_calls.families.tagged import TAGGED
from adapter_kit.tool_calls.grammar import Grammar

FAMILIES: tuple[Grammar, ...] = (*TAGGED, *NAMED, *IN_JSON, *IN_CODE, LLAMA3)
BY_NAME = {name: grammar for grammar in FAMILIES for name in grammar.names}
