"""Families whose calls have each argument between tags of its own."""

from __future__ import annotations

import re

from adapter_kit.tool_calls.grammar import NAME, Grammar, Tagged

_READ = "2026-11-29"
"""When the sources here were opened last."""
_VLLM = "https://github.com/vllm-project/vllm/blob/"
_SGLANG = "https://github.com/sgl-project/sglang/blob/"
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
    or_json=True,
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
        or_json=how.or_json,
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
        families="DeepSeek V3.2, V4",
        source=_SGLANG + "03f31e60d189/python/sglang/srt/function_call/deepseekv32_detector.py",
        checked=_READ,
        sign=re.compile(r"｜DSML｜"),
        begin=("<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"),
        end=("</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"),
        how=(_with(_INVOKE, "｜DSML｜"),),
    ),
    Grammar(
        names=("kimi_k3",),
        families="Kimi K3",
        source=_VLLM + "2d9567486f72/vllm/tool_parsers/kimi_k3_tool_parser.py",
        checked=_READ,
        special=True,
        sign=re.compile(r"<\|open\|>.{0,4000}open_tag\('call'|<\|open\|>call tool=", re.DOTALL),
        begin=("<|open|>tools<|sep|>",),
        end=("<|close|>tools<|sep|>",),
        silent=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
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
                escapes=True,
            ),
        ),
    ),
    Grammar(
        names=("minimax_m2",),
        families="MiniMax M2",
        source=_SGLANG + "087f50049752/python/sglang/srt/function_call/minimax_m2.py",
        checked=_READ,
        sign=re.compile(r"<minimax:tool_call>"),
        begin=("<minimax:tool_call>",),
        end=("</minimax:tool_call>",),
        how=(_INVOKE,),
    ),
    Grammar(
        names=("step3",),
        families="Step 3",
        source=_SGLANG + "039e4472e9f1/python/sglang/srt/function_call/step3_detector.py",
        checked=_READ,
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
        source=_VLLM + "3e47bf473f0a/vllm/tool_parsers/seed_oss_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<seed:tool_call>"),
        begin=("<seed:tool_call>",),
        end=("</seed:tool_call>",),
        how=(_FUNCTION,),
        bare=True,
    ),
    Grammar(
        names=("glm45", "glm47"),
        families="GLM 4.5 to 4.7",
        source=_VLLM + "081866a63af3/vllm/tool_parsers/glm4_moe_tool_parser.py",
        checked=_READ,
        special=True,
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
        names=("qwen3_coder", "qwen3_xml", "mimo", "step3p5"),
        families="Qwen3-Coder, Qwen 3.5, Nemotron 3, MiMo, Step 3.5",
        source=_VLLM + "00d0a333ba9b/vllm/tool_parsers/qwen3coder_tool_parser.py",
        checked=_READ,
        sign=re.compile(r"<function=[^>]*>?.{0,400}<parameter=", re.DOTALL),
        begin=("<tool_call>",),
        end=("</tool_call>",),
        how=(_FUNCTION,),
        bare=True,
    ),
)
