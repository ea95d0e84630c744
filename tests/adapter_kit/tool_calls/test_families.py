"""Calls as each family of models writes them, told from text wherever it was cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapter_kit.tool_calls import FAMILIES, tool_call_parser
from tests.adapter_kit.tool_calls.reading import Joined, every_split, joined, parts_of

STRING, INTEGER = {"type": "string"}, {"type": "integer"}
TOOLS: dict[str, Any] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": STRING,
            "days": INTEGER,
            "exact": {"type": "boolean"},
            "units": {"type": "array", "items": STRING},
            "at": {"$ref": "#/$defs/Place"},
            "note": {"anyOf": [STRING, {"type": "null"}]},
            "share": {"type": "number"},
        },
        "$defs": {"Place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
    },
    "add": {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}},
    "org/my-tool": {"type": "object", "properties": {}},
    "Find It": {"type": "object", "properties": {"what": STRING}},
    "code.run": {"type": "object", "properties": {"source": STRING}},
}
W, A = ("get_weather", {"city": "Rome", "days": 3}), ("add", {"a": 1, "b": -2})
NO: dict[str, Any] = {}

WRITTEN: list[tuple[str, str, list[Any]]] = [
    # Mistral, with its marks and without
    ("mistral", '[TOOL_CALLS]get_weather{"city": "Rome", "days": 3}[TOOL_CALLS]add{"a": 1, "b": -2}', [W, A]),
    ("mistral", 'get_weather{"city": "Rome", "days": 3}add{"a": 1, "b": -2}', [W, A]),
    ("mistral", 'So:\nadd{"a": 1, "b": -2} ok', ["So:\n", A, " ok"]),
    ("mistral", '[TOOL_CALLS]org/my-tool[ARGS]{}', [("org/my-tool", NO)]),
    ("mistral", 'add[ARGS]{"a": 1, "b": -2}', [A]),
    ("mistral", 'addaB3dE6gH9{"a": 1, "b": -2}', [A]),
    ("mistral", '[TOOL_CALLS]add[CALL_ID]aB3dE6gH9[ARGS]{"a": 1, "b": -2}[TOOL_CALLS]code.run[CALL_ID]bB3dE6gH9[ARGS]'
                '{"source": "{"}</s>', [A, ("code.run", {"source": "{"}), "</s>"]),
    ("mistral", '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": -2}}]\n\nDone', [A, "\n\nDone"]),
    ("mistral", "[TOOL_CALLS]nobody{}", [("nobody", NO)]),
    # JSON between marks
    ("hermes", '<tool_call>[{"name": "add", "arguments": {"a": 1, "b": -2}}, {"name": "add"}]</tool_call>',
     [A, ("add", NO)]),
    ("hermes", '<tool_call>{"name": "add", "arguments": null}</tool_call>', [("add", NO)]),
    ("hermes", '<tool_call>{"name": "add", "arguments": ""}</tool_call>!', [("add", NO), "!"]),
    ("hermes", '<tool_call>{"arguments": null, "name": "add"}</tool_call>', [("add", NO)]),
    ("hermes", '<tool_call>{"name": "add", "parameters": {"a": 1, "b": -2}}</tool_call>', [A]),
    ("hermes", '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1, \\"b\\": -2}"}</tool_call>', [A]),
    ("hermes", '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -2}}}\n</tool_call> End', [A, " End"]),
    ("hermes", '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -2}}}', [A]),
    ("hermes", '<tool_call>\n```json\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n```\n</tool_call>', [A]),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1, "b": -2}}\n'
               '<tool_call>{"name": "add", "arguments": {}}', [A, ("add", NO)]),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1, "b": -2}}\n{"name": "add", "arguments": {}}'
               "</tool_call>x", [A, ("add", NO), "x"]),
    ("hermes", '<tool_call>{"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": -2}}}'
               "</tool_call>", [A]),
    ("hermes", '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>', [("nobody", NO)]),
    ("tool_calls", 'Hm.\n<tool_calls>\n[{"name": "add", "arguments": {"a": 1, "b": -2}}]\n</tool_calls>', ["Hm.\n", A]),
    ("tool_calls", '<tool_calls>\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n{"name": "add", "arguments": {}}\n'
                   "</tool_calls>", [A, ("add", NO)]),
    # As the sources of those that stand for several families have it
    ("jamba", ' I look.<tool_calls>[\n    {"name": "add", "arguments": {"a": 1, "b": -2}},\n    {"name": "add", '
              '"arguments": {}}\n]</tool_calls>', [" I look.", A, ("add", NO)]),
    ("hunyuan_a13b", '<tool_calls>[{"name": "add", "arguments": {"a": 1, "b": -2}}]</tool_calls>', [A]),
    ("ernie45", '\n\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n</tool_call>\n', [A]),
    ("phi4_mini_json", 'functools[{"name": "add", "arguments": {"a": 1, "b": -2}}]', [A]),
    ("qwen2_5_coder", '<tools>\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n</tools>', [A]),
    ("qwen2_5_coder", '<tools>\n[{"name": "add", "arguments": {"a": 1, "b": -2}}, {"name": "add", "arguments": {}}]\n'
                      "</tools>", [A, ("add", NO)]),
    ("qwen2_5_coder", '```json\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n```', [A]),
    ("granite", '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": -2}}]', [A]),
    ("granite", '<tool_call>[{"arguments": {"a": 1, "b": -2}, "name": "add"}]', [A]),
    ("granite", 'functools[{"name": "add", "arguments": {"a": 1, "b": -2}}, {"name": "add", "arguments": {}}]',
     [A, ("add", NO)]),
    ("granite", '<|tool_call|>[{"name": "add", "arguments": {"a": 1, "b": -2}}]<|/tool_call|>', [A]),
    ("granite-20b-fc", '<function_call> {"name": "add", "arguments": {"a": 1, "b": -2}} <function_call> '
                       '{"name": "add", "arguments": {}}', [A, ("add", NO)]),
    ("xlam", '```json\n[{"name": "add", "arguments": {"a": 1, "b": -2}}]\n```', [A]),
    ("xlam", '[{"name": "add", "arguments": {"a": 1, "b": -2}}]', [A]),
    ("xlam", "```json\n[1]\n```", ["```json\n[1]\n```"]),
    ("longcat", '<longcat_tool_call>\n{"name": "add", "arguments": {"a": 1, "b": -2}}\n</longcat_tool_call>', [A]),
    ("nemotron", '<TOOLCALL>[{"name": "add", "arguments": {"a": 1, "b": -2}}]</TOOLCALL>', [A]),
    ("internlm", 'I look.<|action_start|><|plugin|>\n{"name": "add", "parameters": {"a": 1, "b": -2}}<|action_end|>\n',
     ["I look.", A]),
    ("cohere_command", '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "add", "parameters": '
                       '{"a": 1, "b": -2}},\n    {"tool_call_id": "1", "tool_name": "add", "parameters": {}}\n]'
                       "<|END_ACTION|>", [A, ("add", NO)]),
    ("cohere_command", "<|START_RESPONSE|>It is 3.<|END_RESPONSE|>", ["It is 3."]),
    ("cohere_command4", "<|START_TEXT|>It is 3.<|END_TEXT|>", ["It is 3."]),
    ("command_r", 'Action: ```json\n[\n  {"tool_name": "add", "parameters": {"a": 1, "b": -2}}\n]```', [A]),
    ("apertus", '<|tools_prefix|>[{"add": {"a": 1, "b": -2}}, {"get_weather": {"city": "Rome", "days": 3}}]'
                "<|tools_suffix|>", [A, W]),
    ("apertus", '[{"add": {"a": 1, "b": -2}}]', [A]),
    ("apertus", '{"anybody": {"a": 1}}', ['{"anybody": {"a": 1}}']),
    ("gigachat3", 'Hm.<|message_sep|>\n\nfunction call<|role_sep|>\n{"name": "add", "arguments": {"a": 1, "b": -2}}'
                  "<|message_sep|>", ["Hm.", A]),
    ("gigachat3", "Hm.<|message_sep|>\n\n", ["Hm."]),
    # A name, then JSON
    ("deepseek_v3",
     "Let me see.\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
     '{"a": 1, "b": -2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n'
     '```json\n{"city": "Rome", "days": 3}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
     ["Let me see.\n\n", A, W]),
    ("deepseek_v31", '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1, "b": -2}<｜tool▁call▁end｜>'
                     '<｜tool▁call▁begin｜>org/my-tool<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>Done',
     [A, ("org/my-tool", NO), "Done"]),
    ("deepseek_v31", '<｜tool▁call▁begin｜>add<｜tool▁sep｜>{"a": 1, "b": -2}<｜tool▁call▁end｜> Then', [A, " Then"]),
    ("kimi_k2", "Ok<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
                '{"a": 1, "b": -2}<|tool_call_end|><|tool_call_begin|>functions.code.run:1<|tool_call_argument_begin|>'
                '{"source": ""}<|tool_call_end|><|tool_calls_section_end|>', ["Ok", A, ("code.run", {"source": ""})]),
    ("kimi_k2", 'functions.add:0{"a": 1, "b": -2}functions.add:1{}', [A, ("add", NO)]),
    ("functionary", '<function=add>{"a": 1, "b": -2}</function><function=add>{}</function>', [A, ("add", NO)]),
    ("functionary_v32", 'all\nI look.>>>add\n{"a": 1, "b": -2}>>>add\n{}', ["I look.", A, ("add", NO)]),
    ("functionary_v32", 'add\n{"a": 1, "b": -2}', [A]),
    ("functionary_v32", "all\nHello", ["Hello"]),
    ("openai", '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1, "b": -2}<|call|>', [A]),
    ("openai", '<|start|>assistant<|channel|>commentary to=functions.add<|message|>{"a": 1, "b": -2}', [A]),
    ("openai", '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.add<|channel|>commentary '
               'json<|message|>{"a": 1, "b": -2}<|call|>', ["I look.", A]),
    ("openai", "<|channel|>final<|message|>It is 3.<|return|>", ["It is 3."]),
    # Arguments between tags
    ("qwen3_coder", "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
                    "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=add>\n"
                    "<parameter=a>\n1\n</parameter>\n<parameter=b>\n-2\n</parameter>\n</function>\n</tool_call> End",
     ["I look.\n", W, A, " End"]),
    ("qwen3_coder", "<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
                    "</function>", [W]),
    ("qwen3_coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n<parameter=days>\n3\n</function>\n"
                    "</tool_call>", [W]),
    ("qwen3_coder", "<tool_call>\n<function=org/my-tool>\n</function>\n</tool_call>", [("org/my-tool", NO)]),
    ("qwen3_coder", '<tool_call>\n<function=code.run>\n<parameter=source>\nprint("</p>\\n")\n\n  if a < b: é\n'
                    "</parameter>\n</function>\n</tool_call>",
     [("code.run", {"source": 'print("</p>\\n")\n\n  if a < b: é'})]),
    ("qwen3_coder", "<tool_call>\n<function=get_weather>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=units>\n"
                    '["C", "F"]\n</parameter>\n<parameter=at>\n{"lat": 4.5}\n</parameter>\n<parameter=note>\nnull\n'
                    "</parameter>\n<parameter=share>\n0.5\n</parameter>\n<parameter=days>\nmany\n</parameter>\n"
                    "</function>\n</tool_call>",
     [("get_weather", {"exact": True, "units": ["C", "F"], "at": {"lat": 4.5}, "note": None, "share": 0.5,
                       "days": "many"})]),
    ("qwen3_coder", "<tool_call>\n<function=code.run>\n<parameter=source>\nx\n</function>\n",
     [("code.run", {"source": "x"})]),
    ("qwen3_coder", "<function=add>\n<parameter=a>\n1</function>", [("add", {"a": 1})]),
    ("seed_oss", "<seed:tool_call>\n<function=add>\n<parameter=a>1</parameter>\n<parameter=b>-2</parameter>\n"
                 "</function>\n</seed:tool_call>", [A]),
    ("seed_oss", "<function=add>\n<parameter=a>1</parameter>\n<parameter=b>-2</parameter>\n</function>", [A]),
    ("minimax_m2", '\n<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Rome</parameter>\n'
                   '<parameter name="days">3</parameter>\n</invoke>\n<invoke name="add">\n<parameter name="a">1'
                   '</parameter><parameter name="b">-2</parameter>\n</invoke>\n</minimax:tool_call>', [W, A]),
    ("glm45", "I look.\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n"
              "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>\n<tool_call>add\n<arg_key>a</arg_key>\n"
              "<arg_value>1</arg_value>\n<arg_key>b</arg_key>\n<arg_value>-2</arg_value>\n</tool_call>",
     ["I look.\n", W, A]),
    ("glm47", "<tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value><arg_key>b</arg_key><arg_value>-2</arg_value>"
              "</tool_call>", [A]),
    ("glm45", "<tool_call>org/my-tool\n</tool_call>", [("org/my-tool", NO)]),
    ("deepseek_v32", '\n\n<｜DSML｜function_calls>\n'
                     '<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" '
                     'string="true">Rome</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">3'
                     "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>", [W]),
    ("deepseek_v32", '<｜DSML｜function_calls>\n<｜DSML｜invoke name="add">\n{"a": 1, "b": -2}\n</｜DSML｜invoke>\n'
                     '<｜DSML｜invoke name="add">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>x',
     [A, ("add", NO), "x"]),
    ("deepseek_v4", '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="a" string="false">1'
                    '</｜DSML｜parameter>\n<｜DSML｜parameter name="b" string="false">-2</｜DSML｜parameter>\n'
                    "</｜DSML｜invoke>\n</｜DSML｜tool_calls>", [A]),
    ("step3", '<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="add">\n'
              '<steptml:parameter name="a">1</steptml:parameter>\n<steptml:parameter name="b">-2</steptml:parameter>\n'
              "</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>", [A]),
    ("kimi_k3", '<|open|>response<|sep|>I look.<|close|>response<|sep|><|open|>tools<|sep|><|open|>call tool="f" '
                'index="1"<|sep|><|open|>argument key="a&quot;b &amp;amp;" type="string"<|sep|>x &quot;'
                '<|close|>argument<|sep|><|open|>argument key="o" type="object"<|sep|>{"a":1}<|close|>argument<|sep|>'
                "<|close|>call<|sep|><|close|>tools<|sep|><|close|>message<|sep|>",
     ["I look.", ("f", {'a"b &amp;': "x &quot;", "o": {"a": 1}})]),
    ("step3", '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="add">'
              '<steptml:parameter name="a">1</steptml:parameter><steptml:parameter name="b">-2</steptml:parameter>'
              "</steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>", [A]),
    ("kimi_k3", '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|><|open|>argument key="city" '
                'type="string"<|sep|>Rome<|close|>argument<|sep|><|open|>argument key="days" type="number"<|sep|>3'
                "<|close|>argument<|sep|><|close|>call<|sep|><|close|>tools<|sep|>", [W]),
    # Python
    ("pythonic", "[add(a=1, b=-2),]", [A]),
    ("pythonic", "[org/my-tool(), code.run(source='a\\nb')]", [("org/my-tool", NO), ("code.run", {"source": "a\nb"})]),
    ("pythonic", "[get_weather(city=\"Rome\", days=3, at={'lat': -1.5, 'x': [None, true]}, note=null)]",
     [("get_weather", {"city": "Rome", "days": 3, "at": {"lat": -1.5, "x": [None, True]}, "note": None})]),
    ("pythonic", "[add(1, -2)]", [A]),
    ("pythonic", "[add(1, b=-2)]\nDone", [A, "\nDone"]),
    ("pythonic", "[add(1, 2, 3)]", ["[add(1, 2, 3)]"]),
    ("pythonic", "[add(1, a=2)]", ["[add(1, a=2)]"]),
    ("pythonic", "<|python_start|>[nobody(a=1)]<|python_end|>", [("nobody", {"a": 1})]),
    ("pythonic", '<|python_start|>{"name": "add", "parameters": {"a": 1, "b": -2}}<|python_end|>', [A]),
    ("pythonic", "[Find It(what='x'), add(a=1, b=-2)]", [("Find It", {"what": "x"}), A]),
    ("pythonic", "[Find Me(what='x')]", ["[Find Me(what='x')]"]),
    ("lfm2", "<|tool_call_start|>[add(a=1, b=-2)]<|tool_call_end|>[add(a=1, b=-2)]<|tool_call_end|>",
     [A, "[add(a=1, b=-2)]<|tool_call_end|>"]),
    ("lfm2", "[add(a=1, b=-2)]\nDone", [A, "\nDone"]),
    ("lfm2", '<|tool_call_start|>[add(a=1, b=-2)]<|tool_call_end|>It comes.', [A, "It comes."]),
    ("olmo3", "<function_calls>\nadd(a=1, b=-2)\norg/my-tool()\n</function_calls>", [A, ("org/my-tool", NO)]),
    ("gemma3", "```tool_code\nadd(a=1, b=-2)\n```", [A]),
    # Nearly JSON
    ("functiongemma",
     "<start_function_call>call:get_weather{city:<escape>Rome<escape>,days:3}<end_function_call>", [W]),
    ("gemma4", '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>,days:3}<tool_call|><|tool_call>call:add{a:1,b:-2}'
               "<tool_call|>", [W, A]),
    ("gemma4", '<|tool_call>call:f{o:{k:[true,null,<|"|>},{<|"|>]},t:bare word}<tool_call|>',
     [("f", {"o": {"k": [True, None, "},{"]}, "t": "bare word"})]),
    # JSON without a mark
    ("llama3_json", '{"name": "add", "parameters": {"a": 1, "b": -2}}', [A]),
    ("llama3_json", 'So:\n```json\n{"name": "add", "parameters": {"a": 1, "b": -2}}\n```\nDone',
     ["So:\n", A, "\nDone"]),
    ("llama3_json", "```json\n{}\n```", ["```json\n{}\n```"]),
    ("llama3_json", '<|python_tag|>{"name": "nobody", "parameters": {}}', [("nobody", NO)]),
]  # fmt: skip
BROKEN: list[tuple[str, str]] = [
    ("deepseek_v3", "<｜tool▁calls▁begin｜>"),
    (
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\nnone\n```<｜tool▁call▁end｜>",
    ),
    ("kimi_k2", "<|tool_calls_section_begin|> hello <|tool_calls_section_end|>"),
    ("qwen3_coder", "<tool_call>\n<function=add>\nno tags\n</function>\n</tool_call>"),
    ("qwen3_coder", "<tool_call>\n<function=add"),
    ("qwen3_coder", "You write <function=name> and <parameter=x>."),
    ("glm45", "<tool_call>I call nobody</tool_call>"),
    ("glm45", "<tool_call>add\n<arg_key>a</arg_key>\nnothing"),
    ("minimax_m2", '<minimax:tool_call>\n<invoke name="">\n</invoke>'),
    ("minimax_m2", "<minimax:tool_call>{}</minimax:tool_call>"),
    ("openai", "<|channel|>commentary to=functions.add <|message|>no object"),
    ("functionary", "<function=add>no object</function>"),
    ("functionary_v32", "Hello >>> there"),
    ("olmo3", "<function_calls>\nadd(a=open('x'))\n</function_calls>"),
    ("gemma3", "```tool_code\nimport os\n```"),
    ("gemma4", "<|tool_call>call:add{a:1"),
    ("functiongemma", "<start_function_call>call:add(1)<end_function_call>"),
    ("granite", '[{"name": "nobody", "arguments": {}}]'),
    ("command_r", "Action: we go home"),
    ("hermes", '<tool_call>{"name": "add", "arguments": "no object"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "add", "arguments": 5}</tool_call>'),
    ("hermes", "<tool_call></tool_call>"),
    ("hermes", "<tool_call>[]</tool_call>"),
]  # fmt: skip


def values(found: Joined) -> list[Any]:
    return [each if isinstance(each, str) else (each[0], json.loads(each[1])) for each in found]


@pytest.mark.spec("ORCH-3073-001", "ORCH-3073-006", "ORCH-3073-017")
@pytest.mark.parametrize("grammar, text, expected", WRITTEN)
def test_calls_of_every_family_are_told_from_text_wherever_it_is_cut(
    grammar: str, text: str, expected: list[Any]
) -> None:
    whole = joined(parts_of(grammar, [text], TOOLS))
    assert values(whole) == expected
    for pieces in every_split(text):
        assert joined(parts_of(grammar, pieces, TOOLS)) == whole, pieces


@pytest.mark.spec("ORCH-3073-002")
@pytest.mark.parametrize("grammar, text", BROKEN)
def test_what_breaks_off_before_it_is_a_call_stays_text_to_the_letter(grammar: str, text: str) -> None:
    for pieces in every_split(text):
        assert joined(parts_of(grammar, pieces, TOOLS)) == [text], pieces


@pytest.mark.spec("ORCH-3073-001")
def test_every_family_has_a_call_here() -> None:
    tried = {name for name, _, expected in WRITTEN if any(isinstance(each, tuple) for each in expected)}
    assert [each.name for each in FAMILIES if not tried & set(each.names)] == []


@pytest.mark.spec("ORCH-3073-003")
def test_texts_between_tags_come_as_they_are_written_and_other_values_when_they_are_whole() -> None:
    parser = tool_call_parser("qwen3_coder", TOOLS)
    assert parser.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\nRo") != []
    assert [part.arguments for part in parser.feed('me "1"') if not isinstance(part, str)] == ['me \\"1\\"']
    assert parser.feed("\n") == [], "it may be the last line break, which is layout"
    parser.feed("</parameter>\n<parameter=days>\n")
    assert parser.feed("12") == []
    assert [part.arguments for part in parser.feed("\n</parameter>") if not isinstance(part, str)] == ["12"]
    assert parser.open
    parser.feed("\n</function>")
    assert not parser.open


@pytest.mark.spec("ORCH-3073-003")
@pytest.mark.parametrize("grammar, text, arguments", [
    ("qwen3_coder", "<tool_call>\n<function=code.run>\n<parameter=source>\nprint(", '{"source": "print('),
    ("qwen3_coder", "<tool_call>\n<function=add>\n<parameter=a>\n1", '{"a": "1'),
    ("glm45", "<tool_call>code.run\n<arg_key>source</arg_key>\n<arg_value>a\n", '{"source": "a\\n'),
    ("kimi_k2", "<|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{\"a\": ", '{"a": '),
    ("deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{\"a\"", '{"a"'),
])  # fmt: skip
def test_a_call_that_is_cut_off_is_left_open(grammar: str, text: str, arguments: str) -> None:
    for pieces in every_split(text):
        parser = tool_call_parser(grammar, TOOLS)
        parts = [*(part for piece in pieces for part in parser.feed(piece)), *parser.finish()]
        [call] = joined(parts)
        assert call[1] == arguments
        assert parser.open


@pytest.mark.spec("ORCH-3073-006")
def test_a_model_s_own_id_of_a_call_is_kept_unless_another_one_has_it() -> None:
    text = "".join(
        f"<|tool_call_begin|>functions.add:{at}<|tool_call_argument_begin|>{{}}<|tool_call_end|>" for at in (0, 1, 1)
    )
    ids = [part.id for part in parts_of("kimi_k2", [text], TOOLS) if not isinstance(part, str)]
    assert ids == ["functions.add:0", "functions.add:1", None]
