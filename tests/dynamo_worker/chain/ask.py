"""Questions to a cluster's frontends by unmodified clients, answered as JSON: `ask.py WHAT '{"more": …}'`."""

from __future__ import annotations

import http.client
import json
import queue
import select
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

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


def raises(code: str) -> Any:
    """How an error of the contract looks to clients of tensors and of text."""
    try:
        client().infer("failing", [tensor("x", np.ones(1, "f4"), "FP32")], parameters={"code": code})
        kserve: Any = None
    except InferenceServerException as exc:
        kserve = failed(exc)
    return {"kserve": kserve, "http": post("/v1/completions", {"model": "failing", "prompt": code})}


def post(path: str, body: Any) -> Any:
    """The status and body of an answer of the HTTP frontend; the data of its events where it streams."""
    connection = http.client.HTTPConnection(OPENAI, timeout=_WAIT_S)
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


def dropped(body: Any) -> Any:
    """Begin a stream over HTTP, and drop the connection after its first event."""
    connection = http.client.HTTPConnection(OPENAI, timeout=_WAIT_S)
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
