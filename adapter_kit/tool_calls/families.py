"""The grammars that are known. A family of models that writes otherwise is one more entry here.

They stand in the order in which a template is asked for them: some templates of one family quote another's words.
"""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import NAME, Grammar, JsonObject, LooseObject, NameThenJson, PythonCall, Tagged

_HF = "https://huggingface.co/"
_PLAIN_NAME = r"[\w.\-/]+"

MISTRAL = Grammar(
    names=("mistral",),
    families="Mistral, Mixtral, Magistral, Devstral",
    source="https://github.com/mistralai/mistral-common",
    sign=re.compile(r"\[TOOL_CALLS\]"),
    begin=("[TOOL_CALLS]",),
    how=(
        JsonObject(),
        NameThenJson(
            head=re.compile(rf"(?P<name>{NAME})\s*+(?:\[CALL_ID\]\s*+(?P<id>[\w\-]*)\s*+)?(?:\[ARGS\])?\s*+"),
            id_letters=9,
        ),
    ),
    bare=True,
)
_INVOKE = Tagged(
    begin="<invoke ",
    head=re.compile(rf"""name=["']?(?P<name>{NAME})["']?"""),
    head_end=">",
    end="</invoke>",
    key_begin="<parameter ",
    key=re.compile(r"""name=["']?(?P<key>[^"']+)["']?(?:\s+string=["'](?P<string>true|false)["'])?"""),
    key_end=">",
    value_end="</parameter>",
    cut_by=("\n<parameter name=", "</invoke>\n", "</invoke></"),
)


def _with(how: Tagged, mark: str) -> Tagged:
    """Return tags with a mark of the family's in each."""

    def marked(tag: str) -> str:
        return re.sub(r"(</?)(?=\w)", rf"\g<1>{mark}", tag)

    return Tagged(
        begin=marked(how.begin),
        head=how.head,
        head_end=how.head_end,
        end=marked(how.end),
        key_begin=marked(how.key_begin),
        key=how.key,
        key_end=how.key_end,
        value_end=marked(how.value_end),
        cut_by=tuple(map(marked, how.cut_by)),
    )


_FUNCTION = Tagged(
    begin="<function=",
    head_end=">",
    end="</function>",
    key_begin="<parameter=",
    key_end=">",
    value_end="</parameter>",
    cut_by=("\n<parameter=", "</function>\n</", "</function></"),
)
FAMILIES: tuple[Grammar, ...] = (
    MISTRAL,
    Grammar(
        names=("deepseek_v32", "deepseek_v4"),
        families="DeepSeek V3.2",
        source=_HF + "deepseek-ai/DeepSeek-V3.2",
        sign=re.compile(r"｜DSML｜"),
        begin=("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
        end=("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
        how=(_with(_INVOKE, "｜DSML｜"),),
    ),
    Grammar(
        names=("deepseek_v3", "deepseek_v31"),
        families="DeepSeek R1, V3, V3.1",
        source=_HF + "deepseek-ai/DeepSeek-V3.1",
        sign=re.compile(r"<｜tool▁call"),
        begin=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
        after=("<｜tool▁call▁end｜>",),
        end=("<｜tool▁calls▁end｜>",),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?:\w+<｜tool▁sep｜>(?=[^{{]))?(?P<name>{NAME})\s*+(?:<｜tool▁sep｜>)?\s*+(?:```(?:json)?)?\s*+"
                )
            ),
        ),
    ),
    Grammar(
        names=("kimi_k2",),
        families="Kimi K2",
        source=_HF + "moonshotai/Kimi-K2-Instruct",
        sign=re.compile(r"<\|tool_calls_section_begin\|>|<\|tool_call_argument_begin\|>"),
        begin=("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>", "<|tool_call_begin|>"),
        after=("<|tool_call_end|>",),
        end=("<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?P<id>(?:functions\.)?(?P<name>{_PLAIN_NAME}?)(?::\d+)?)"
                    r"\s*+(?:<\|tool_call_argument_begin\|>)?\s*+"
                )
            ),
        ),
        bare=True,
    ),
    Grammar(
        names=("kimi_k3",),
        families="Kimi K3",
        source=_HF + "moonshotai/Kimi-K3",
        sign=re.compile(r"<\|open\|>.{0,4000}open_tag\('call'|<\|open\|>call tool=", re.DOTALL),
        begin=("<|open|>tools<|sep|>",),
        end=("<|close|>tools<|sep|>",),
        how=(
            Tagged(
                begin="<|open|>call ",
                head=re.compile(rf'tool="(?P<name>{NAME})".*'),
                head_end="<|sep|>",
                end="<|close|>call<|sep|>",
                key_begin="<|open|>argument ",
                key=re.compile(r'key="(?P<key>[^"]+)"(?: type="(?P<type>\w+)")?'),
                key_end="<|sep|>",
                value_end="<|close|>argument<|sep|>",
                trims=False,
            ),
        ),
    ),
    Grammar(
        names=("openai", "harmony", "gptoss"),
        families="gpt-oss",
        source="https://github.com/openai/harmony",
        sign=re.compile(r"<\|channel\|>"),
        begin=(
            "<|start|>assistant<|channel|>commentary to=functions.",
            "<|start|>assistant<|channel|>analysis to=functions.",
            "<|start|>assistant to=functions.",
            "<|channel|>commentary to=functions.",
            "<|channel|>analysis to=functions.",
        ),
        end=("<|call|>", "<|end|>"),
        how=(
            NameThenJson(
                head=re.compile(
                    rf"(?P<name>{NAME})\s*+(?:<\|channel\|>\w+\s*+)?(?:<\|constrain\|>)?\s*+\w*\s*+<\|message\|>\s*+"
                )
            ),
        ),
        silent=(
            "<|start|>assistant<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>commentary<|message|>",
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|end|>",
            "<|return|>",
        ),
    ),
    Grammar(
        names=("minimax_m2",),
        families="MiniMax M2",
        source=_HF + "MiniMaxAI/MiniMax-M2",
        sign=re.compile(r"<minimax:tool_call>"),
        begin=("<minimax:tool_call>",),
        end=("</minimax:tool_call>",),
        how=(_INVOKE,),
    ),
    Grammar(
        names=("step3",),
        families="Step 3",
        source=_HF + "stepfun-ai/step3",
        sign=re.compile(r"<steptml:|<｜tool_calls_begin｜>"),
        begin=("<｜tool_calls_begin｜>", "<｜tool_call_begin｜>"),
        between=("function<｜tool_sep｜>",),
        after=("<｜tool_call_end｜>",),
        end=("<｜tool_calls_end｜>",),
        how=(_with(_INVOKE, "steptml:"),),
    ),
    Grammar(
        names=("seed_oss",),
        families="Seed-OSS",
        source=_HF + "ByteDance-Seed/Seed-OSS-36B-Instruct",
        sign=re.compile(r"<seed:tool_call>"),
        begin=("<seed:tool_call>",),
        end=("</seed:tool_call>",),
        how=(_FUNCTION,),
    ),
    Grammar(
        names=("glm45", "glm47"),
        families="GLM 4.5 to 4.7",
        source=_HF + "zai-org/GLM-4.5",
        sign=re.compile(r"<arg_key>"),
        begin=("<tool_call>",),
        end=("</tool_call>",),
        how=(
            Tagged(
                key_begin="<arg_key>",
                key=re.compile(r"(?P<key>.+)", re.DOTALL),
                key_end="</arg_key>",
                value_begin="<arg_value>",
                value_end="</arg_value>",
                cut_by=("\n<arg_key>", "</tool_call>"),
                trims=False,
                guesses=True,
            ),
        ),
    ),
    Grammar(
        names=("qwen3_coder", "qwen3_xml"),
        families="Qwen3-Coder, Qwen 3.5, Nemotron 3, MiMo, Step 3.5",
        source=_HF + "Qwen/Qwen3-Coder-30B-A3B-Instruct",
        sign=re.compile(r"<function=[^>]*>?.{0,400}<parameter=", re.DOTALL),
        begin=("<tool_call>",),
        end=("</tool_call>",),
        how=(_FUNCTION,),
        bare=True,
    ),
    Grammar(
        names=("functionary",),
        families="Functionary v3.1, Llama 3.1 with tools of its user",
        source="https://github.com/MeetKai/functionary",
        sign=re.compile(r"<function="),
        begin=("<function=",),
        after=("</function>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})>\s*+")),),
    ),
    Grammar(
        names=("functionary_v32",),
        families="Functionary v3.2",
        source="https://github.com/MeetKai/functionary",
        sign=re.compile(r">>>"),
        begin=(">>>",),
        how=(NameThenJson(head=re.compile(rf"(?P<name>{NAME})\n\s*+")),),
        silent=(">>>all\n",),
        prompted=">>>",
    ),
    Grammar(
        names=("functiongemma",),
        families="FunctionGemma",
        source=_HF + "google/functiongemma-270m-it",
        sign=re.compile(r"<start_function_call>"),
        begin=("<start_function_call>",),
        end=("<end_function_call>",),
        how=(LooseObject(begin="call:", quote="<escape>"),),
    ),
    Grammar(
        names=("gemma4",),
        families="Gemma 4",
        source=_HF + "google/gemma-4-31B-it",
        sign=re.compile(r"<\|tool_call>"),
        begin=("<|tool_call>",),
        end=("<tool_call|>",),
        how=(LooseObject(begin="call:", quote='<|"|>'),),
    ),
    Grammar(
        names=("gemma3",),
        families="Gemma 3",
        source="https://ai.google.dev/gemma/docs/capabilities/function-calling",
        sign=re.compile(r"```tool_code"),
        begin=("```tool_code",),
        end=("```",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("cohere_command", "cohere_command3"),
        families="Command R7B, Command A",
        source=_HF + "CohereLabs/c4ai-command-r7b-12-2024",
        sign=re.compile(r"<\|START_ACTION\|>"),
        begin=("<|START_ACTION|>",),
        end=("<|END_ACTION|>",),
        how=(JsonObject(),),
        bare=True,
        silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    Grammar(
        names=("command_r",),
        families="Command R, Command R+",
        source=_HF + "CohereLabs/c4ai-command-r-v01",
        sign=re.compile(r"Action:\s*```json"),
        begin=("Action:",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("apertus",),
        families="Apertus",
        source=_HF + "swiss-ai/Apertus-8B-Instruct-2509",
        sign=re.compile(r"<\|tools_prefix\|>"),
        begin=("<|tools_prefix|>",),
        end=("<|tools_suffix|>",),
        how=(JsonObject(name_is_key=True),),
        bare=True,
    ),
    Grammar(
        names=("internlm",),
        families="InternLM 2.5",
        source=_HF + "internlm/internlm2_5-7b-chat",
        sign=re.compile(r"<\|action_start\|>"),
        begin=("<|action_start|>",),
        between=("<|plugin|>",),
        end=("<|action_end|>",),
        how=(JsonObject(),),
        bare=True,
    ),
    Grammar(
        names=("longcat",),
        families="LongCat Flash",
        source=_HF + "meituan-longcat/LongCat-Flash-Chat",
        sign=re.compile(r"<longcat_tool_call>"),
        begin=("<longcat_tool_call>",),
        end=("</longcat_tool_call>",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("lfm2",),
        families="LFM 2",
        source=_HF + "LiquidAI/LFM2-1.2B",
        sign=re.compile(r"<\|tool_call_start\|>"),
        begin=("<|tool_call_start|>",),
        end=("<|tool_call_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
    ),
    Grammar(
        names=("hermes", "ernie45", "granite4", "qwen"),
        families="Hermes 2 and 3, Qwen 2.5 and 3, QwQ, ERNIE 4.5, Granite 4, SmolLM 3",
        source="https://github.com/NousResearch/Hermes-Function-Calling",
        sign=re.compile(r"<tool_call>"),
        begin=("<tool_call>",),
        end=("</tool_call>",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("granite", "phi4_mini_json"),
        families="Granite 3, Phi-4-mini",
        source=_HF + "ibm-granite/granite-3.1-8b-instruct",
        sign=re.compile(r"<\|tool_call\|>|functools"),
        begin=("<|tool_call|>", "<tool_call>", "functools"),
        end=("<|/tool_call|>", "</tool_call>"),
        how=(JsonObject(),),
        bare=True,
    ),
    Grammar(
        names=("granite-20b-fc",),
        families="Granite 20B function calling",
        source=_HF + "ibm-granite/granite-20b-functioncalling",
        sign=re.compile(r"<function_call>"),
        begin=("<function_call>",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("olmo3",),
        families="OLMo 3",
        source=_HF + "allenai/Olmo-3-7B-Instruct",
        sign=re.compile(r"<function_calls>"),
        begin=("<function_calls>",),
        end=("</function_calls>",),
        how=(PythonCall(),),
    ),
    Grammar(
        names=("nemotron",),
        families="Nemotron Nano 2, Llama Nemotron",
        source=_HF + "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
        sign=re.compile(r"<TOOLCALL>"),
        begin=("<TOOLCALL>",),
        end=("</TOOLCALL>",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("tool_calls", "hunyuan_a13b", "jamba", "minimax"),
        families="Hunyuan A13B, Jamba 1.5, MiniMax M1, Apriel",
        source=_HF + "tencent/Hunyuan-A13B-Instruct",
        sign=re.compile(r"<tool_calls>"),
        begin=("<tool_calls>",),
        end=("</tool_calls>",),
        how=(JsonObject(),),
    ),
    Grammar(
        names=("gigachat3",),
        families="GigaChat 3",
        source=_HF + "ai-sage/GigaChat3-10B-A1.8B",
        sign=re.compile(r"function call.{0,2000}<\|role_sep\|>|<\|role_sep\|>.{0,2000}function call", re.DOTALL),
        begin=("function call<|role_sep|>",),
        end=("<|message_sep|>",),
        how=(JsonObject(),),
        bare=True,
    ),
    Grammar(
        names=("xlam",),
        families="xLAM 1 and 2",
        source=_HF + "Salesforce/Llama-xLAM-2-8b-fc-r",
        sign=re.compile(r"""\[\s*\{\\*["'](?:name|tool)\\*["']\s*:[^{}]{0,80}["']arguments\\*["']"""),
        begin=("[TOOL_CALLS]", "<tool_call>"),
        end=("</tool_call>",),
        how=(JsonObject(),),
        bare=True,
        fenced=True,
    ),
    Grammar(
        names=("pythonic", "llama4_pythonic"),
        families="Llama 4, Llama 3.2, ToolACE",
        source="https://www.llama.com/docs/model-cards-and-prompt-formats/llama4/",
        sign=re.compile(r"<\|python_start\|>|\[\s*\w+\(\w+\s*="),
        begin=("<|python_start|>",),
        end=("<|python_end|>",),
        how=(PythonCall(listed=True), JsonObject()),
        bare=True,
    ),
    Grammar(
        names=("llama3_json", "llama4_json"),
        families="Llama 3.1 to 3.3",
        source="https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1/",
        sign=re.compile(r"""<\|python_tag\|>|["']name\\?["']\s*:[^{}]{0,80}["']parameters\\?["']"""),
        begin=("<|python_tag|>",),
        how=(JsonObject(),),
        bare=True,
    ),
)
BY_NAME = {name: grammar for grammar in FAMILIES for name in grammar.names}
