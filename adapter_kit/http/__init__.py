"""An HTTP/1.1 client for engines that stream: cheap per chunk, cancelled by closing, every wait and size bounded.

One `HttpClient` speaks to one origin and belongs to one event loop:

    client = HttpClient("http://engine:8000/v1", settings=HttpSettings())
    async with client.stream("POST", "/chat/completions", headers=[...], body=b"{...}", timeout_s=60) as answer:
        async for data in answer.chunks():
            ...                              # leaving early closes the connection: the engine sees its client go
    answer = await client.request("GET", "/models", timeout_s=5)   # the whole body, bounded
    await client.aclose()

`settings` is how to connect and what is allowed, `client` what callers use, `answer` what they read. Below them:
`exchange` is a request and its answer, `connections` has what they need (`pool` keeps, `connecting` makes, `proxies`
says through whom), `connection` is one of them, `received` takes an answer apart, `deadlines` watches, `request` and
`origin` check what callers give, `packing` and `inflating` compress.
"""

from adapter_kit.http.answer import HttpAnswer, WholeAnswer
from adapter_kit.http.client import HttpClient
from adapter_kit.http.settings import HttpSettings

__all__ = ["HttpAnswer", "HttpClient", "HttpSettings", "WholeAnswer"]
