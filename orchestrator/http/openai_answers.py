"""What the OpenAI API's answers say of a task's events: the same at every face of that API."""

from __future__ import annotations

from adapter_kit.openai.answers import (
    Kind,
    end_of,
    finish_reason_of,
    ids_of,
    logprobs_of,
    no_piece,
    piece_of_text,
    piece_of_thought,
    piece_of_tool_call,
    prompt_logprobs_of,
    scores_of,
    usage_of,
    whole_choice,
)

__all__ = [
    "Kind", "end_of", "finish_reason_of", "ids_of", "logprobs_of", "no_piece", "piece_of_text", "piece_of_thought",
    "piece_of_tool_call", "prompt_logprobs_of", "scores_of", "usage_of", "whole_choice",
]  # fmt: skip
