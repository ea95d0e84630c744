"""The table of engines' texts: what each means, and which release was seen to say it. Data; `status` reads it.

Rows are tried from the top; the first that matches wins. Texts are matched case-insensitively. `said` holds at least
one text per row as an engine puts it, with the release and where that is known from: "seen" is a run of that release
here, anything else is where it was read. Tests send each of them through a server.

A row for a text is worth more than a guess. What no row knows is judged so that nobody is wronged:

- With a code, by the code. An INTERNAL that nobody knows is the engine's failure at this task, and is not retryable.
- Inside a stream, where Triton loses the code, it is the engine's failure at this task, and retryable: nothing says
  that the client may not try again. It condemns neither replica nor model at the adapter, and at a host at most this
  model at this replica, for a moment, while another replica can take its tasks.
- Behind `Error generating stream:` (vLLM's backend) and `Error generating request:` (TensorRT-LLM's LLM API), which put
  every refusal so and without a code, it is the request's fault before the first token: that is where requests are
  refused. Afterwards the request was good enough to begin with, and it is the engine's failure as above.
"""

from __future__ import annotations

from adapter_api import (
    AdapterError,
    ConnectionLost,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    NotReady,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unsupported,
)
from triton_adapter.wire.connection_texts import CONNECTION
from triton_adapter.wire.text_rows import Compiled, Row, Said, row


def _triton(*texts: str) -> tuple[Said, ...]:
    return tuple(Said(text, "Triton 2.51") for text in texts)


def _vllm(*texts: str, release: str = "vLLM 0.13 in Triton's backend 26.01") -> tuple[Said, ...]:
    return tuple(Said(f"Error generating stream: {text}", release) for text in texts)


def _read(release: str, where: str, *texts: str) -> tuple[Said, ...]:
    """Texts of vLLM's as its sources have them, in the words of Triton's backend."""
    return tuple(Said(f"Error generating stream: {text}", release, where) for text in texts)


_ELSEWHERE = "try another replica or again later"
_RELOAD = "unload and load the model (`worker-adapter models unload`, then `load`), or restart the server"


def _dynamo(word: str, error: type[AdapterError], advice: str, *texts: str) -> Compiled:
    """Return the row for a class of Dynamo's: the first word of the text, after what its face was doing.

    The code is INTERNAL whatever a worker raised.
    """
    said = tuple(Said(text, "Dynamo 1.6.1") for text in texts)
    return row(rf"^(Failed to [a-z ]+ stream: )?{word}: ", error, advice, said=said)


_DYNAMO = (
    _dynamo("InvalidRequest", InvalidRequest, "",
            "Failed to fold completions stream: InvalidRequest: ValueError: no such voice"),
    _dynamo("RateLimited", Overloaded, _ELSEWHERE, 'RateLimited: {"message":"slow down","code":429}'),
    _dynamo("Unavailable", NotReady, f"Dynamo lost the worker; {_ELSEWHERE}",
            "Failed to fold completions stream: Unavailable: Stream ended before generation completed",
            "Failed to generate tensor response stream: Unavailable: TCP connection to 127.0.0.1:4321 failed"),
    _dynamo("Cancelled", NotReady, f"the worker cancelled the request; {_ELSEWHERE}", "Cancelled: told to stop"),
    _dynamo("DeadlineExceeded", EngineFailed, "the worker's own time ran out",
            "DeadlineExceeded: TimeoutError: the worker gave up"),
    _dynamo("Internal", EngineFailed, "the worker failed; its log has the reason", "Internal: RuntimeError: boom"),
)  # fmt: skip

TABLE: tuple[Compiled, ...] = (
    *_DYNAMO,
    *CONNECTION,
    # Who may call.
    row(r"(protocol|API) is restricted", PermissionDenied,
         "give the server's restricted-protocol key and value in `restricted_token`",
         said=_triton("This protocol is restricted, expecting header 'triton-grpc-protocol-key'")),
    # Coming, going, gone.
    row(r"has no available versions|is not at ready state", NotReady,
         f"it is loading, unloading or failed to load; {_ELSEWHERE}",
         said=_triton("Request for unknown model: 'm' has no available versions")),
    row(r"unhealthy vLLM engine", NotReady, f"the engine behind the model died; {_ELSEWHERE}",
         said=(Said("Model is unavailable due to unhealthy vLLM engine", "backend 24.12", "vllm_backend"),)),
    row(r"EngineCore (encountered an issue|died)|EngineDead|engine (process |core |loop )?(\(pid \d+\) )?(is |has )?"
         r"(already )?(dead|died)|(background|engine) loop (has errored|is (not running|stopped))"
         r"|Task finished unexpectedly\. This should never happen", EngineFailed,
         f"the engine behind the model died; {_RELOAD}", retryable=True, dead=True,
         said=(*_vllm("EngineCore encountered an issue. See stack trace (above) for the root cause."),
               *_vllm("Background loop has errored already.", release="vLLM 0.5 in Triton's backend 24.10"),
               *_read("vLLM 0.6", "vllm/engine/async_llm_engine.py",
                      "Task finished unexpectedly. This should never happen! Please open an issue on GitHub. See stack "
                      "trace above for the actual cause.",
                      "Background loop is not running. If it was running, inspect the output to find the stacktrace"),
               *_read("vLLM 0.8", "vllm/engine/multiprocessing",
                      "Engine loop is not running. Inspect the stacktrace to find the original error: "
                      "RuntimeError('Engine process (pid 402494) died.').",
                      "Engine loop is not running. Inspect the stacktrace to find the original error"))),
    # Workers of an engine that spreads a model over several processes: without one of them it never goes on.
    row(r"Worker proc \S+ died|RPC call to \w+ timed out|(ray )?actor (is dead|died)|ActorDiedError|RayActorError"
         r"|Executor failed\.$|Worker failed with error", EngineFailed,
         f"a worker process of the engine died or hangs; {_RELOAD}", retryable=True, dead=True,
         said=(*_read("vLLM 0.13", "vllm/v1/executor/multiproc_executor.py",
                      "Worker proc VllmWorker-3 died unexpectedly, shutting down executor.",
                      "RPC call to execute_model timed out.", "Executor failed.",
                      "Worker failed with error 'boom', please check the stack trace above for the root cause"),
               *_read("Ray 2.40", "ray/exceptions.py",
                      "The actor died unexpectedly before finishing this task."))),
    row(r"Server exiting|Server not ready|Server is stopping|shutting down|stopped accepting new", NotReady,
         f"the server is stopping; {_ELSEWHERE}",
         said=(Said("Server exiting", "Triton 2.51"),
               Said("GRPC server is shutting down and has stopped accepting new requests.", "Triton 2.58", "server"))),
    row(r"is not healthy", EngineFailed,
         "the model's process died; unload and load the model, or restart the server", retryable=True, dead=True,
         said=_triton("Stub process 'm_0_0' is not healthy.")),
    row(r"Unable to find shared memory region", NotReady,
         "the server does not know our memory, as after a restart; send the request again",
         said=_triton("Unable to find shared memory region: 'worker-adapter-7-abc'")),
    # Too much at once.
    row(r"Exceeds maximum queue size|Request timeout expired|queue.* is full|too many requests",
         Overloaded, _ELSEWHERE, said=_triton("Exceeds maximum queue size", "Request timeout expired")),
    row(r"out of memory|OutOfMemory|failed to allocate.*memory|(memory|bad)[ _]alloc(ation)?\b.{0,20}(fail|error)"
         r"|std::bad_alloc", EngineFailed,
         f"it may pass when less is asked of the engine at once; if it stays, {_RELOAD}", retryable=True,
         said=(*_vllm("CUDA out of memory. Tried to allocate 2.00 GiB."),
               Said("failed to allocate pinned system memory", "Triton 2.51", "core"))),
    row(r"CUDA error|CUDA (driver|runtime) error|cudaError|CUBLAS_STATUS|CUDNN_STATUS|NCCL error|illegal memory access"
         r"|device-side assert|unspecified launch failure|HIP error|hipError|uncorrectable ECC error"
         r"|GPU (is lost|has fallen off the bus)", EngineFailed,
         f"what a GPU did wrong stays wrong in the process; {_RELOAD}", retryable=True, dead=True,
         said=(*_vllm("CUDA error: an illegal memory access was encountered"),
               Said("CUDA error: device-side assert triggered", "any PyTorch", "pytorch"),
               Said("HIP error: an illegal memory access was encountered", "any PyTorch for ROCm", "pytorch"),
               Said("Executor failed process requestId 8 due to the following error: Encountered an error in "
                    "forwardAsync function: [TensorRT-LLM][ERROR] CUDA runtime error in cudaEventSynchronize(get()): "
                    "unspecified launch failure", "TensorRT-LLM 0.10", "tensorrtllm_backend"))),
    row(r"Failed to increase the shared memory pool size", EngineFailed,
         "the server's /dev/shm is full: give its container more (`--shm-size`), or ask for less at once",
         retryable=True,
         said=(Said("Failed to process the request(s) for model instance 'm_0_0', message: Failed to increase the "
                    "shared memory pool size for key 'triton_python_backend_shm_region_6' to 67108864 bytes. If you "
                    "are running Triton inside docker, use '--shm-size' flag to control the shared memory region "
                    "size. Error: No space left on device", "Triton 2.51", "python_backend/src/shm_manager.cc"),)),
    # Too long for the model: vLLM's and TensorRT-LLM's words for it.
    row(r"maximum context length|longer than the maximum model length|too long to fit into the model"
         r"|is too long and exceeds limit of"
         r"|(prompt|input|request|sequence) length.{0,40}(exceeds|longer than|larger than|greater than)"
         r"|should not exceed max_(num_tokens|seq_len|input_len)"
         r"|exceeds? (the )?(max_seq_len|max_input_len|max_model_len)",
         ContextLengthExceeded, "shorten the prompt or ask for fewer tokens",
         said=(*_vllm("This model's maximum context length is 2048 tokens. However, you requested 4000"),
               *_read("vLLM 0.13", "vllm/v1/engine/input_processor.py",
                      "The decoder prompt (length 5000) is longer than the maximum model length of 2048. Make sure "
                      "that `max_model_len` is no smaller than the number of text tokens."),
               *_read("vLLM 0.6", "vllm/core/scheduler.py",
                      "Input prompt (5000 tokens) is too long and exceeds limit of 2048"),
               Said("Prompt length (5056) exceeds maximum sequence length (2048)", "TensorRT-LLM 0.16",
                    "tensorrtllm_backend"),
               Said("Error generating request: The sum of prompt length (3000), query length (0) should not exceed "
                    "max_num_tokens (2048)", "TensorRT-LLM 1.1", "tensorrt_llm/llmapi/llm.py"),
               Said("Executor failed process requestId 8 due to the following error: Encountered an error when "
                    "fetching new request: Prompt length (5056) exceeds maximum input length (2048). Set log level to "
                    "info and check TRTGptModel logs for how maximum input length is set", "TensorRT-LLM 0.10",
                    "tensorrtllm_backend"))),
    # vLLM's backend, about what the request asks for. It says every refusal in this way, and loses every code.
    row(r"'NoneType' object has no attribute 'lora_name'", InvalidRequest,
         "vLLM did not take a sampling parameter: one it does not know, or whose value is out of range",
         said=_vllm("'NoneType' object has no attribute 'lora_name'", release="Triton's backend 25.01")),
    row(r"unexpected keyword argument '?(structured_outputs|guided_decoding)", Unsupported,
         "`response_format` goes under another name in this release of the backend, or not at all: up to 24.12 it has "
         "no constraints, up to 25.10 they are `guided_decoding`, then `structured_outputs`; say which in the "
         "adapter's setting `models.<name>.inputs.response_format`",
         said=_vllm("Unexpected keyword argument 'structured_outputs'", release="Triton's backend 24.12")),
    row(r"unexpected keyword argument", InvalidRequest, "this release of vLLM has no such sampling parameter",
         said=_vllm("Unexpected keyword argument 'foo'", release="Triton's backend 24.12")),
    row(r"must be in \[|must be (at least|non-negative|positive|greater|less)", InvalidRequest, "",
         said=_vllm("min_p must be in [0, 1], got 5.", release="Triton's backend 24.12")),
    row(r"greater than max allowed", InvalidRequest, "ask for fewer `logprobs`",
         said=_vllm("Requested sample logprobs of 100, which is greater than max allowed: 20")),
    row(r"JSON schema contains features not supported|uses unsupported feature for structured outputs", Unsupported,
         "the engine's constraints do not know a keyword of this schema; leave it out, or check the answer yourself",
         said=_read("vLLM 0.13", "vllm/v1/structured_output",
                    "The provided JSON schema contains features not supported by xgrammar.",
                    "Regex uses unsupported feature for structured outputs: lookahead")),
    row(r"Grammar error|Invalid grammar specification|Failed to (transform|convert) .{0,40}(grammar|schema|regex)"
         r"|Invalid (regex|JSON|BNF|grammar)[^:]{0,40} for structured outputs", InvalidRequest,
         "correct the expression, schema or grammar in `response_format`",
         said=(*_vllm("Grammar error: Failed to parse regex"),
               *_read("vLLM 0.13", "vllm/v1/structured_output",
                      "Invalid grammar specification.",
                      "Failed to transform json schema into a grammar: unsupported keyword",
                      "Failed to convert the grammar from Lark to EBNF: expected a rule"),
               *_read("Triton's backend 26.01", "vllm_backend",
                      "Invalid regex constraint for structured outputs: Unexpected end"))),
    row(r"allowed_token_ids is not None and empty", InvalidRequest, "leave `triton.allowed_token_ids` out or fill it",
         said=_vllm("allowed_token_ids is not None and empty!")),
    row(r"cannot identify image file", InvalidRequest, "it is no image, or of a kind that the engine cannot read",
         said=_vllm("cannot identify image file <_io.BytesIO object>")),
    row(r"At most [1-9]\d* \w+\(s\) may be provided|limit-mm-per-prompt.{0,80}but passed \d+", InvalidRequest,
         "send fewer images at once; the server's `limit_mm_per_prompt` sets how many",
         said=(*_read("vLLM 0.13", "vllm/multimodal/processing.py",
                      "At most 1 image(s) may be provided in one prompt."),
               *_read("vLLM 0.8", "vllm/multimodal",
                      """You set or defaulted to '{"image": 1}' in `--limit-mm-per-prompt`, but passed 2 image items """
                      "in the same prompt."))),
    row(r"Failed to apply prompt replacement|prompt updates corresponding to", InvalidRequest,
         "the prompt has no placeholder for an image: send messages, and give the model's `chat_template` to the pool "
         "or adapter",
         said=_read("vLLM 0.11", "vllm/multimodal/processing.py",
                    "Failed to apply prompt replacement for mm_items['image'][0]",
                    "Expected there to be 1 prompt updates corresponding to 1 image items, but instead found 0 prompt "
                    "updates!")),
    row(r"does not support ('\w+' request|generation)|Unsupported task:", Unsupported,
         "the model makes no text, as those for embeddings; name another",
         said=(*_read("Triton's backend 25.11", "vllm_backend", "Model m does not support 'generate' request"),
               *_read("vLLM 0.13", "vllm/v1/engine/input_processor.py", "This model does not support generation"))),
    row(r"prompt cannot be empty", InvalidRequest, "give a prompt that is not empty",
         said=_read("vLLM 0.13", "vllm/v1/engine/input_processor.py", "The decoder prompt cannot be empty")),
    row(r"is not a multimodal model|At most 0 image", Unsupported,
         "the model takes text only; send the task without images",
         said=_vllm("m is not a multimodal model")),
    row(r"LoRA feature is not enabled|but LoRA is not enabled", Unsupported,
         "the model was loaded without LoRA; leave `triton.lora_name` out",
         said=(*_vllm("LoRA feature is not enabled."),
               *_read("vLLM 0.13", "vllm/v1/engine/input_processor.py",
                      "Got lora_request LoRARequest(lora_name='1') but LoRA is not enabled!"))),
    row(r"LoRA .* is not supported, we currently support", InvalidRequest, "name one of those in `triton.lora_name`",
         said=_vllm("LoRA x is not supported, we currently support ['poet']")),
    # TensorRT-LLM's executor. It refuses a request when it takes it up; a failed step ends all that run.
    row(r"LoRA task \d+ not found in cache", InvalidRequest,
         "the engine does not have this LoRA (any more): send its weights with the request",
         said=(Said("Executor failed process requestId 8 due to the following error: LoRA task 10 not found in cache. "
                    "Please send LoRA weights with request", "TensorRT-LLM 0.16", "tensorrtllm_backend"),)),
    row(r"Cache is full\. There are no done tasks to evict", Overloaded,
         "more LoRAs are in use than the engine has room for; " + _ELSEWHERE,
         said=(Said("Executor failed process requestId 8 due to the following error: Cache is full. There are no done "
                    "tasks to evict", "TensorRT-LLM 0.16", "tensorrtllm_backend"),)),
    row(r"Encountered an error when fetching new request|Cannot process new request:", InvalidRequest,
         "the engine refused the request",
         said=(Said("Executor failed process requestId 8 due to the following error: Encountered an error when "
                    "fetching new request: Requested beam width 4 is larger than configured max beam width 1",
                    "TensorRT-LLM 0.16", "tensorrtllm_backend"),
               Said("Cannot process new request: Streaming mode is only supported with beam width of 1.",
                    "TensorRT-LLM 0.9", "tensorrtllm_backend"))),
    row(r"Error in event loop|fail to schedule any pending request", EngineFailed,
         f"the engine's loop has ended; {_RELOAD}", retryable=True, dead=True,
         said=(Said("Error in event loop: fail to schedule any pending request, probably run out of resource.",
                    "TensorRT-LLM 0.20", "tensorrt_llm/_torch/pyexecutor/py_executor.py"),)),
    row(r"Encountered an error in forward(Async|Sync)? function|Executor failed process requestId"
         r"|Encountered error for requestId", EngineFailed,
         f"a step of the engine failed, and all that ran in it; if it stays, {_RELOAD}", retryable=True,
         said=(Said("Executor failed process requestId 163510 due to the following error: Encountered an error in "
                    "forwardAsync function: [TensorRT-LLM][ERROR] Assertion failed: mNextBlocks.empty() "
                    "(kvCacheManager.cpp:219)", "TensorRT-LLM 0.10", "tensorrtllm_backend#550"),)),
    # What the request names or lacks.
    row(r"unknown model|^Unexpected .*ModelNotFound|requested model '.*' is not available|model .* is not found"
         r"|failed to poll from model repository",
         ModelNotFound, "list what there is with `worker-adapter models list`",
         said=_triton("Request for unknown model: 'nope' is not found")),
    row(r"doesn't support models with decoupled transaction policy", Unsupported,
         "the model streams its responses, and this call returns one; ask for a stream",
         said=_triton("ModelInfer RPC doesn't support models with decoupled transaction policy")),
    row(r"explicit model load / unload is not allowed", Unsupported,
         "start the server with --model-control-mode=explicit", retryable=False,
         said=_triton("explicit model load / unload is not allowed if polling is enabled")),
    row(r"must specify the START flag|must specify a non-zero or non-empty correlation ID", InvalidRequest,
         "begin the sequence anew, with `start`",
         said=_triton("inference request for sequence 42 to model 'm' must specify the START flag on the first request "
                      "of the sequence")),
    row(r"^load failed for model", EngineFailed, "see the reason, mend the model, load it again", retryable=False,
         said=_triton("load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError: no; ")),
    row(r"unexpected (inference )?(input|output)|unexpected shape|data-type is"
         r"|expected (\d+|number of) inputs .{0,40}but got|expected \d+ inputs but got|invalid model version specified"
         r"|batch-size must be <=|expected \d+ (string|bytes?) elements|incomplete string data"
         r"|unable to find data for input|contents field must not be specified|invalid value type for"
         r"|failed to get model version from specified version string|is reserved for Triton", InvalidRequest,
         said=_triton("unexpected inference input 'zzz' for model 'm'")),
    row(r"An error occurred when processing the input values", InvalidRequest, "",
         said=(Said("An error occurred when processing the input values for request id 7", "TensorRT-LLM 0.16",
                    "tensorrtllm_backend"),)),
    # An exception of the model's own code comes back for the same input.
    row(r"^(\[request id: [^\]]*\] *)?Failed to process the request\(s\) for model", EngineFailed, "", retryable=False,
         said=_triton("Failed to process the request(s) for model 'm_0_0', message: RuntimeError: python exploded")),
    # Last, because it knows no more than who speaks.
    row(r"^(in ensemble '[^']*', )?Error generating (stream|request):\s*$", InvalidRequest,
         "the backend refused the request and gave no reason; its log may have one", begun=EngineFailed,
         said=_vllm("")),
    row(r"^(in ensemble '[^']*', )?Error generating (stream|request):", InvalidRequest, "", begun=EngineFailed,
         said=(*_vllm("a reason that nobody has met yet"),
               Said("Error generating request: top_k must be an integer", "TensorRT-LLM 0.20", "tensorrtllm_backend"))),
)  # fmt: skip

BY_CODE: dict[str, Row] = {
    "INVALID_ARGUMENT": Row("", InvalidRequest),
    "OUT_OF_RANGE": Row("", InvalidRequest),
    "NOT_FOUND": Row("", ModelNotFound),
    "ALREADY_EXISTS": Row("", InvalidRequest),
    "FAILED_PRECONDITION": Row("", NotReady),
    "UNIMPLEMENTED": Row("", Unsupported, "this server does not have what was asked for"),
    "UNAUTHENTICATED": Row("", Unauthenticated, "check `bearer_token`"),
    "PERMISSION_DENIED": Row("", PermissionDenied, "check `bearer_token`"),
    "RESOURCE_EXHAUSTED": Row("", Overloaded, _ELSEWHERE),
    "UNAVAILABLE": Row("", NotReady, _ELSEWHERE),
    # Not by us, so by the server: it does that to running calls when it stops.
    "CANCELLED": Row("", NotReady, f"the server cancelled the call; {_ELSEWHERE}"),
    "ABORTED": Row("", EngineFailed, retryable=True),
    "DATA_LOSS": Row("", ConnectionLost),
    "INTERNAL": Row("", EngineFailed),
    "UNKNOWN": Row("", EngineFailed),
}
"""What a text that no row knows comes to, by its code."""

UNKNOWN_CODE = Row("", EngineFailed)
"""For a code that is none of gRPC's."""
IN_BAND = Row("", EngineFailed, retryable=True)
"""For a text that no row knows and that lost its code inside a stream; see the top of this file."""
