"""Families whose calls have each argument between tags of its own."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import NAME, Grammar, Tagged

_HF = "https://huggingface.co/"
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
TAGGED: tuple[Grammar, ...] = (
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
)
