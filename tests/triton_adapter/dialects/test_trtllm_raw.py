"""Tasks to and from the bare tensorrt_llm model, which speaks token ids."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from adapter_api import Capability, ConfigurationError, InvalidRequest, Token, TokenIds, Unsupported
from tests.triton_adapter.dialects.models import decode, encode, reply, schema, sent, tensor, text
from triton_adapter.dialects import choose_dialect
from triton_adapter.dialects.trtllm_raw import IdsToText
from triton_adapter.settings import ModelOverride

RAW = schema("trtllm_raw")


@pytest.fixture
def override(tmp_path: Path) -> ModelOverride:
    """A byte-level tokenizer without merges: the id of a token is the byte it stands for."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(byte_level_tokenizer()))
    return ModelOverride(tokenizer=path)


def test_the_prompt_goes_as_ids_with_their_number(override: ModelOverride) -> None:
    encoded = encode(RAW, override, prompt="Hé", max_tokens=8, top_k=3, top_p=0.5, seed=5, stop=["x"])

    assert sent(encoded) == {
        "input_ids": list("Hé".encode()),
        "input_lengths": 3,
        "request_output_len": 8,
        "runtime_top_k": 3,
        "runtime_top_p": 0.5,
        "seed": 5,
        "streaming": True,
        "exclude_input_in_output": True,
        "return_num_input_tokens": True,
        "return_num_output_tokens": True,
    }
    assert {each.name: each.shape for each in encoded.inputs}["input_ids"] == (1, 3)


def test_the_outputs_that_the_backend_insists_on_are_asked_for(override: ModelOverride) -> None:
    assert {"output_ids", "sequence_length"} <= set(encode(RAW, override, max_tokens=8).outputs)


def test_max_tokens_is_missed_by_the_name_of_the_field(override: ModelOverride) -> None:
    with pytest.raises(InvalidRequest, match=r"needs input 'request_output_len': set the task's `max_tokens`"):
        encode(RAW, override)


def test_a_prompt_without_tokens_is_refused(override: ModelOverride) -> None:
    with pytest.raises(InvalidRequest, match="has no tokens"):
        encode(RAW, ModelOverride(tokenizer=_without_vocabulary(override)), max_tokens=8)


def test_without_a_tokenizer_the_way_out_is_named() -> None:
    with pytest.raises(Unsupported, match=r"takes token ids: give its tokenizer\.json as `models\.tensorrt_llm\.tok"):
        choose_dialect(RAW)


def test_a_file_that_is_no_tokenizer_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{}")

    with pytest.raises(ConfigurationError, match=re.escape("'broken.json' cannot be read")):
        choose_dialect(RAW, ModelOverride(tokenizer=tmp_path / "broken.json"))


def ids(*values: int, padding: int = 0) -> Any:
    shape = (1, 1, len(values) + padding)
    return reply(output_ids=tensor([*values, *[0] * padding], None, shape), sequence_length=tensor(len(values)))


def test_ids_become_text_without_the_padding(override: ModelOverride) -> None:
    events, _ = decode(RAW, [ids(*b"Hi", padding=3), ids(*b"!")], override, max_tokens=8)

    assert events == [Token(0, "Hi"), Token(1, "!")]


def test_a_character_of_several_ids_comes_when_it_is_complete(override: ModelOverride) -> None:
    events, _ = decode(RAW, [ids(byte) for byte in "aé🙂".encode()], override, max_tokens=8)

    assert events == [Token(0, "a"), Token(1, "é"), Token(2, "🙂")]


def test_a_character_that_never_completes_is_shown_as_such_at_the_end(override: ModelOverride) -> None:
    events, _ = decode(RAW, [ids(97), ids(0xF0)], override, max_tokens=8)

    assert text(events) == "a\ufffd"


def test_a_stop_string_is_found_across_ids(override: ModelOverride) -> None:
    events, end = decode(RAW, [ids(byte) for byte in b"one END two"], override, max_tokens=80, stop=["END"])

    assert text(events) == "one "
    assert end.finish_reason == "stop"


def test_only_the_first_beam_is_shown(override: ModelOverride) -> None:
    two_beams = reply(output_ids=tensor([*b"ab", *b"cd"], None, (1, 2, 2)), sequence_length=tensor([2, 2]))

    assert text(decode(RAW, [two_beams], override, max_tokens=8)[0]) == "ab"


def test_blanks_that_a_decoder_drops_at_the_front_are_not_lost_in_the_middle() -> None:
    words = {1: "Hello", 2: "\u2581new", 3: "\u2581world"}

    class Decoder:
        def encode(self, text: str) -> list[int]:
            return []

        def decode(self, ids: list[int]) -> str:
            return "".join(words[each] for each in ids).replace("\u2581", " ").removeprefix(" ")

    stream = IdsToText(Decoder())

    assert [stream.feed([each]) for each in (1, 2, 3)] == ["Hello", " new", " world"]


def byte_level_tokenizer() -> dict[str, Any]:
    # How byte-level tokenizers write bytes that print badly: moved up to U+0100 and following.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(moved)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {letter: byte for byte, letter in letters.items()}, "merges": []},
    }


def _without_vocabulary(override: ModelOverride) -> Path:
    assert override.tokenizer is not None
    definition = byte_level_tokenizer()
    definition["model"]["vocab"] = {}
    path = override.tokenizer.with_name("empty.json")
    path.write_text(json.dumps(definition))
    return path


@pytest.mark.spec("ORCH-3076-008")
def test_token_ids_of_a_task_go_as_they_are(override: ModelOverride) -> None:
    ours = encode(RAW, override, prompt="Hé", max_tokens=8)
    given = encode(RAW, override, prompt=None, prompt_token_ids=[*"Hé".encode()], max_tokens=8)

    assert sent(given) == sent(ours)


@pytest.mark.spec("ORCH-3076-002")
def test_ids_are_told_where_they_are_asked_for(override: ModelOverride) -> None:
    asked: dict[str, Any] = {"prompt": None, "prompt_token_ids": [7, 8], "max_tokens": 8, "return_token_ids": True}
    replies = [ids(*"aé".encode()[:2], padding=2), ids("é".encode()[1]), ids(*b"!")]

    events, _ = decode(RAW, replies, override, **asked)
    by_text, _ = decode(RAW, [ids(97)], override, prompt="Hi", max_tokens=8, return_token_ids=True)

    assert events == [
        TokenIds(prompt=(7, 8)), TokenIds(output=(97, 0xC3)), TokenIds(output=(0xA9,)), Token(0, "aé"),
        TokenIds(output=(33,)), Token(1, "!"),
    ]  # fmt: skip
    assert by_text[0] == TokenIds(prompt=(72, 105))


@pytest.mark.spec("ORCH-3076-008")
def test_it_declares_token_ids_both_ways(override: ModelOverride) -> None:
    capabilities = choose_dialect(RAW, override).capabilities(RAW)

    assert {Capability.PROMPT_TOKEN_IDS, Capability.TOKEN_IDS, Capability.CONTINUE_FINAL_MESSAGE} <= capabilities
