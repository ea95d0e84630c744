"""How models set their thoughts off from their answers. A family that does it otherwise is one more entry here."""

from __future__ import annotations

from functools import lru_cache

import msgspec


class Thoughts(msgspec.Struct, frozen=True, kw_only=True):
    """The marks of a family of models."""

    names: tuple[str, ...]
    """What settings call it; the first is its own, the others are what vLLM's parsers of the same are called."""
    families: str
    source: str = ""
    """Where the marks were read; nothing where they were written down from memory."""
    checked: str = ""
    """The day that the source was opened and compared with these."""
    begin: tuple[str, ...]
    """What stands before thoughts: any of these."""
    end: tuple[str, ...]
    """What stands behind them: any of these."""
    ended_by: tuple[str, ...] = ()
    """What calls begin with and ends thoughts, too: models forget their end before them. Long enough that it is no
    mere mention of a mark."""
    special: bool = False
    """Whether the marks are tokens that engines leave out of their text unless they are asked for them, and can be
    asked for in safety."""
    again: bool = False
    """Whether there may be more of them after text."""
    silent: tuple[str, ...] = ()
    """Marks around the answer, which are no text themselves."""

    @property
    def name(self) -> str:
        return self.names[0]


_READ = "2026-11-29"
"""When the sources here were opened last."""
_VLLM = "https://github.com/vllm-project/vllm/blob/"
_SGLANG = "https://github.com/sgl-project/sglang/blob/002e9bfc90a0/python/sglang/srt/parser/reasoning_parser.py"
THOUGHTS: tuple[Thoughts, ...] = (
    Thoughts(
        names=("openai", "openai_gptoss", "harmony"),
        families="gpt-oss",
        source=_SGLANG,
        checked=_READ,
        special=True,
        begin=("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>analysis<|message|>"),
        end=("<|end|>",),
        again=True,
        silent=(
            "<|start|>assistant<|channel|>final<|message|>",
            "<|start|>assistant<|channel|>commentary<|message|>",
            "<|channel|>final<|message|>",
            "<|channel|>commentary<|message|>",
            "<|end|>",
            "<|return|>",
        ),
    ),
    Thoughts(
        names=("cohere_command", "cohere_command3", "cohere_command4"),
        families="Command R7B, Command A, Command A+",
        source=_SGLANG,
        checked=_READ,
        special=True,
        begin=("<|START_THINKING|>",),
        end=("<|END_THINKING|>",),
        ended_by=("<|START_ACTION|>", "<|START_TEXT|>"),
        silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    Thoughts(
        names=("kimi_k3",),
        families="Kimi K3",
        source=_SGLANG,
        checked=_READ,
        special=True,
        begin=("<|open|>think<|sep|>",),
        end=("<|close|>think<|sep|>",),
        ended_by=("<|open|>tools<|sep|>", "<|open|>response<|sep|>"),
        silent=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
    ),
    Thoughts(
        names=("kimi",),
        families="Kimi-VL Thinking",
        source=_SGLANG,
        checked=_READ,
        begin=("◁think▷",),
        end=("◁/think▷",),
    ),
    Thoughts(
        names=("minimax_m3",),
        families="MiniMax M3",
        source=_SGLANG,
        checked=_READ,
        begin=("<mm:think>",),
        end=("</mm:think>",),
    ),
    Thoughts(
        names=("seed_oss",),
        families="Seed-OSS",
        source=_VLLM + "39d74e713bc3/vllm/reasoning/seed_oss_reasoning_parser.py",
        checked=_READ,
        begin=("<seed:think>",),
        end=("</seed:think>",),
    ),
    Thoughts(
        names=("longcat",),
        families="LongCat Flash",
        source=_VLLM + "86c6857c47d6/vllm/reasoning/longcat_reasoning_parser.py",
        checked=_READ,
        begin=("<longcat_think>",),
        end=("</longcat_think>",),
    ),
    Thoughts(
        names=("mistral",),
        families="Magistral, Mistral Small 4",
        source=_SGLANG,
        checked=_READ,
        begin=("[THINK]",),
        end=("[/THINK]",),
    ),
    Thoughts(
        names=("apertus",),
        families="Apertus",
        source=_SGLANG,
        checked=_READ,
        special=True,
        begin=("<|inner_prefix|>",),
        end=("<|inner_suffix|>",),
        ended_by=("<|tools_prefix|>[",),
        again=True,
        silent=("<|inner_suffix|>",),
    ),
    Thoughts(
        names=("gemma4",),
        families="Gemma 4",
        source=_VLLM + "109eefd64636/vllm/reasoning/gemma4_reasoning_parser.py",
        checked=_READ,
        special=True,
        begin=("<|channel>thought\n", "<|channel>"),
        end=("<channel|>",),
        ended_by=("<|tool_call>",),
    ),
    Thoughts(
        names=("hunyuan_a13b",),
        families="Hunyuan A13B",
        source=_VLLM + "0011c7437d0d/vllm/reasoning/hunyuan_a13b_reasoning_parser.py",
        checked=_READ,
        begin=("<think>",),
        end=("</think>",),
        silent=("\n<answer>\n", "\n</answer>", "<answer>", "</answer>"),
    ),
    Thoughts(
        names=("ernie45",),
        families="ERNIE 4.5 Thinking, Granite 3.3",
        source=_VLLM + "391c1585d8ae/vllm/reasoning/ernie45_reasoning_parser.py",
        checked=_READ,
        begin=("<think>",),
        end=("</think>",),
        silent=("\n<response>\n", "\n</response>", "<response>", "</response>"),
    ),
    Thoughts(
        names=("granite",),
        families="Granite 3.2",
        source=_VLLM + "04dbd8f32c4d/vllm/reasoning/granite_reasoning_parser.py",
        checked=_READ,
        begin=("Here is my thought process:", "Here's my thought process:"),
        end=("Here is my response:", "Here's my response:"),
    ),
    Thoughts(
        names=(
            *("think", "deepseek_r1", "qwen3", "glm45", "minimax_m2", "kimi_k2", "olmo3", "deepseek_v3", "deepseek_v4"),
            *("glm47", "holo2", "mimo", "nemotron_v3", "step3", "step3p5", "poolside_v1"),
        ),
        families="DeepSeek R1, Qwen 3, QwQ, GLM 4.5, MiniMax M2, Kimi K2, OLMo 3, Nemotron 3 and most others",
        source=_SGLANG,
        checked=_READ,
        begin=("<think>",),
        end=("</think>",),
        ended_by=(
            *("<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜>"),
            *('<tool_call>\n{"name":', "<tool_call>\n<function="),
        ),
    ),
)
THOUGHTS_BY_NAME = {name: thoughts for thoughts in THOUGHTS for name in thoughts.names}


@lru_cache(maxsize=64)
def thoughts_in(template: str) -> str | None:
    """Return how a model with this chat template sets its thoughts off; `None` where it does not show that it has
    any. Each task asks, and a host has few templates: each is gone through once."""
    return next(
        (
            each.name
            for each in THOUGHTS
            if (
                any(mark in template for mark in each.begin)
                or (not each.again and any(mark in template for mark in each.end))
            )
            and (not each.silent or each.again or any(mark in template for mark in each.silent))
        ),
        None,
    )


def without_open_thoughts(text: str) -> str:
    """Return a text up to the thoughts that it breaks off within, by the marks of any family."""
    places = (
        place
        for each in THOUGHTS
        for mark in each.begin
        if (place := text.rfind(mark)) > max(text.rfind(end) for end in each.end)
    )
    return text[: min(places, default=len(text))]
