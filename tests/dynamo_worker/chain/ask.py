"""Questions to a cluster's frontends by unmodified clients, answered as JSON: `ask.py WHAT '{"more": …}'`."""

from __future__ import annotations

import http.client
import json
import queue
import select
import sys
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor, triton_to_np_dtype

KSERVE, OPENAI = "127.0.0.1:18101", "127.0.0.1:18102"
_WAIT_S = 20.0
_PAUSE_S, _MOST = 0.05, 2000


def client() -> Any:
    return grpcclient.InferenceServerClient(KSERVE)


def tensor(name: str, array: Any, datatype: str) -> Any:
    made = grpcclient.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def four(name: str, number: float) -> Any:
    return tensor(name, np.full((1, 4), number, "f4"), "FP32")


def failed(exc: InferenceServerException) -> dict[str, Any]:
    return {"status": str(exc.status()), "text": exc.message()}


def model(name: str) -> Any:
    """What is told of a model."""
    from google.protobuf.json_format import MessageToDict

    told = client()
    return {
        "ready": told.is_model_ready(name),
        "metadata": MessageToDict(told.get_model_metadata(name)),
        "config": MessageToDict(told.get_model_config(name).config),
    }


def ready(models: list[str]) -> Any:
    """Whether each model answers an inference."""
    x = ["x", "FP32", [1], "0000803f"]
    return ["outputs" in infer(model, [x]) for model in models]


def addsub(times: int = 1, **more: Any) -> Any:
    """Many inferences, one after the other."""
    told, outputs = client(), more.pop("outputs", ())
    return [_addsub(told, outputs, **more) for _ in range(times)]


def addsub_until_told(**more: Any) -> Any:
    """Inferences, one after the other, until standard input ends."""
    told = client()
    found: list[Any] = []
    while not select.select([sys.stdin], [], [], _PAUSE_S)[0] and len(found) < _MOST:
        found.append(_addsub(told, (), **more))
    return found


def _addsub(told: Any, outputs: Any, **more: Any) -> dict[str, Any]:
    asked = [grpcclient.InferRequestedOutput(name) for name in outputs] or None
    try:
        answer = told.infer("addsub", [four("INPUT0", 3), four("INPUT1", 1)], outputs=asked, **more)
    except InferenceServerException as exc:
        return failed(exc)
    response = answer.get_response()
    values = {output.name: answer.as_numpy(output.name).ravel().tolist() for output in response.outputs}
    return {"id": response.id, "outputs": values}


def stream(
    model: str, text: str, *, final: bool = False, id: str = "", leave_after: int = 0, parameters: Any = None
) -> Any:
    """The answers on a stream; with `leave_after` the client cancels when so many came. Says when the first did."""
    told = client()
    arrived: queue.Queue[Any] = queue.Queue()
    told.start_stream(lambda result, error: arrived.put((result, error)))
    given = tensor("text_input", np.array([text.encode()], dtype=object), "BYTES")
    told.async_stream_infer(model, [given], request_id=id, enable_empty_final_response=final, parameters=parameters)
    found: list[Any] = []
    while not (leave_after and len(found) >= leave_after):
        result, error = arrived.get(timeout=_WAIT_S)
        if error is not None:
            found.append(failed(error))
            break
        response = result.get_response()
        ended = response.parameters["triton_final_response"].bool_param
        texts = [text.decode() for o in response.outputs for text in result.as_numpy(o.name).ravel().tolist()]
        found.append({"id": response.id, "texts": texts, "final": ended})
        if len(found) == 1:
            sys.stderr.write("answering\n")
        if ended or not final:
            break
    told.stop_stream(cancel_requests=bool(leave_after))
    return found


def infer(model: str, tensors: Any, *, stream: bool = False, **more: Any) -> Any:
    """The answers to an inference on tensors, each a name, datatype, shape and its raw bytes in hex."""
    told, inputs = client(), [tensor(name, _array(kind, shape, raw), kind) for name, kind, shape, raw in tensors]
    if outputs := more.pop("outputs", None):
        more["outputs"] = [grpcclient.InferRequestedOutput(name, class_count=count) for name, count in outputs]
    with told:
        if stream:
            return _streamed(told, model, inputs, **more)
        try:
            return _told(told.infer(model, inputs, **more).get_response())
        except InferenceServerException as exc:
            return failed(exc)


def _streamed(told: Any, model: str, inputs: Any, *, leave_after: int = 0, **more: Any) -> Any:
    """All answers; the stream is half-closed after the request, which is how an unmodified client ends one."""
    arrived: queue.Queue[Any] = queue.Queue()
    told.start_stream(lambda result, error: arrived.put(failed(error) if error else _told(result.get_response())))
    told.async_stream_infer(model, inputs, **more)
    if leave_after:
        found = [arrived.get(timeout=_WAIT_S) for _ in range(leave_after)]
        told.stop_stream(cancel_requests=True)
        return found
    told.stop_stream()
    return [*arrived.queue]


def typed(model: str, contents: Any, kind: str, shape: list[int], **parameters: Any) -> Any:
    """The answer to an inference whose values stand in a field of their type; `contents` are that field and its values.
    `tritonclient` has no way to send these."""
    pb, stub = grpcclient.service_pb2, grpcclient.service_pb2_grpc
    field, values = contents
    if field == "bytes_contents":
        values = [bytes.fromhex(each) for each in values]
    made = pb.ModelInferRequest.InferInputTensor(name="x", datatype=kind, shape=shape)
    getattr(made.contents, field).extend(values)
    with grpc.insecure_channel(KSERVE) as channel:
        asked = pb.ModelInferRequest(model_name=model, inputs=[made])
        for name, (kind_of, value) in parameters.items():
            setattr(asked.parameters[name], f"{kind_of}_param", value)
        return _told(stub.GRPCInferenceServiceStub(channel).ModelInfer(asked, timeout=_WAIT_S))


def _array(kind: str, shape: list[int], raw: str) -> Any:
    data = bytes.fromhex(raw)
    if kind == "BYTES":
        return deserialize_bytes_tensor(data).reshape(shape)
    return np.frombuffer(data, triton_to_np_dtype(kind)).reshape(shape)


def _told(response: Any) -> Any:
    """A response with what stands in it, and in which form."""
    raw = list(response.raw_output_contents)
    outputs = []
    for number, output in enumerate(response.outputs):
        values: Any = raw[number].hex() if raw else None
        if not raw and output.HasField("contents"):
            [(field, found)] = output.contents.ListFields() or [(None, ())]
            values = [
                field and field.name, [each.hex() if isinstance(each, bytes) else each for each in found],
            ]  # fmt: skip
        outputs.append([output.name, output.datatype, list(output.shape), values])
    parameters = {
        name: [value.WhichOneof("parameter_choice"), getattr(value, value.WhichOneof("parameter_choice"))]
        for name, value in response.parameters.items()
    }
    return {"id": response.id, "version": response.model_version, "parameters": parameters, "outputs": outputs}


def text(model: str, text: str, **more: Any) -> Any:
    """The answers of a model that takes a text."""
    given = text.encode()
    told = infer(model, [["text_input", "BYTES", [1], (len(given).to_bytes(4, "little") + given).hex()]], **more)
    return told if isinstance(told, list) else [told]


def raises(code: str, model: str = "failing") -> Any:
    """How an error of the contract looks to clients of tensors, unary and streaming, and of text."""
    x = ["x", "FP32", [1], "0000803f"]
    return {
        "kserve": infer(model, [x], parameters={"fail": code}),
        "stream": infer(model, [x], parameters={"fail": code}, stream=True),
        "http": post("/v1/completions", {"model": model, "prompt": code}),
    }


def post(path: str, body: Any, at: str = OPENAI) -> Any:
    """The status and body of an answer over HTTP; the data of its events where it streams."""
    connection = http.client.HTTPConnection(at, timeout=_WAIT_S)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    if body.get("stream"):
        events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        return {"status": answer.status, "events": [json.loads(event) for event in events if event != "[DONE]"]}
    return {"status": answer.status, "body": json.loads(text) if text else None}


def each(models: list[str]) -> Any:
    """The status of one completion of each model."""
    return [post("/v1/completions", {"model": model, "prompt": "x", "max_tokens": 1})["status"] for model in models]


def dropped(body: Any, at: str = OPENAI) -> Any:
    """Begin a stream over HTTP, and drop the connection after its first event."""
    connection = http.client.HTTPConnection(at, timeout=_WAIT_S)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    first = answer.readline().decode()
    connection.close()
    answer.close()
    return first


def fetched(port: int, path: str) -> Any:
    """The status and text at a port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    return [answer.status, answer.read().decode()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))
