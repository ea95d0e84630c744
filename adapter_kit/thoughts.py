"""How models set their thoughts off from their answers. A family that does it otherwise is one more entry here."""

from __future__ import annotations

import msgspec


class Thoughts(msgspec.Struct, frozen=True, kw_only=True):
    """The marks of a family of models."""

    names: tuple[str, ...]
    """What settings call it; the first is its own, the others are what vLLM's parsers of the same are called."""
    families: str
    begin: tuple[str, ...]
    """What stands before thoughts: any of these."""
    end: str
    """What stands behind them."""
    ended_by: tuple[str, ...] = ()
    """Marks of calls that end thoughts, too: models forget their end before them."""
    again: bool = False
    """Whether there may be more of them after text."""
    silent: tuple[str, ...] = ()
    """Marks around the answer, which are no text themselves."""

    @property
    def name(self) -> str:
        return self.names[0]


THOUGHTS: tuple[Thoughts, ...] = (
    Thoughts(
        names=("openai", "openai_gptoss", "harmony"),
        families="gpt-oss",
        begin=("<|channel|>analysis<|message|>", "<|start|>assistant<|channel|>analysis<|message|>"),
        end="<|end|>",
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
        names=("cohere_command", "cohere_command3"),
        families="Command R7B, Command A",
        begin=("<|START_THINKING|>",),
        end="<|END_THINKING|>",
        silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ),
    Thoughts(
        names=("kimi_k3",),
        families="Kimi K3",
        begin=("<|open|>think<|sep|>",),
        end="<|close|>think<|sep|>",
        silent=("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    ),
    Thoughts(names=("seed_oss",), families="Seed-OSS", begin=("<seed:think>",), end="</seed:think>"),
    Thoughts(names=("longcat",), families="LongCat Flash", begin=("<longcat_think>",), end="</longcat_think>"),
    Thoughts(names=("mistral",), families="Magistral", begin=("[THINK]",), end="[/THINK]"),
    Thoughts(names=("apertus",), families="Apertus", begin=("<|inner_prefix|>",), end="<|inner_suffix|>"),
    Thoughts(names=("gemma4",), families="Gemma 4", begin=("<|channel>thought\n",), end="<channel|>"),
    Thoughts(
        names=("hunyuan_a13b",),
        families="Hunyuan A13B",
        begin=("<think>",),
        end="</think>",
        silent=("\n<answer>\n", "\n</answer>", "<answer>", "</answer>"),
    ),
    Thoughts(
        names=("ernie45",),
        families="ERNIE 4.5 Thinking, Granite 3.3",
        begin=("<think>",),
        end="</think>",
        silent=("\n<response>\n", "\n</response>", "<response>", "</response>"),
    ),
    Thoughts(
        names=("granite",),
        families="Granite 3.2",
        begin=("Here is my thought process:", "Here's my thought process:"),
        end="Here is my response:",
    ),
    Thoughts(
        names=("think", "deepseek_r1", "qwen3", "glm45", "minimax_m2", "kimi_k2", "olmo3"),
        families="DeepSeek R1, Qwen 3, QwQ, GLM 4.5, MiniMax, Kimi K2, OLMo 3, Nemotron and most others",
        begin=("<think>",),
        end="</think>",
        ended_by=("<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜>"),
    ),
)
THOUGHTS_BY_NAME = {name: thoughts for thoughts in THOUGHTS for name in thoughts.names}


def thoughts_in(template: str) -> str | None:
    """Return how a model with this chat template sets its thoughts off; `None` where it does not show that it has
    any."""
    return next(
        (
            each.name
            for each in THOUGHTS
            if (any(mark in template for mark in each.begin) or (each.end in template and not each.again))
            and (not each.silent or each.again or any(mark in template for mark in each.silent))
        ),
        None,
    )


def without_open_thoughts(text: str) -> str:
    """Return a text up to the thoughts that it breaks off within, by the marks of any family."""
    places = (place for each in THOUGHTS for mark in each.begin if (place := text.rfind(mark)) > text.rfind(each.end))
    return text[: min(places, default=len(text))]
