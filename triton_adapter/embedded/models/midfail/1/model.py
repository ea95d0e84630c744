"""Sends some tokens, then fails as the request parameters say.

`tokens` are sent first (the model's configuration has the default). `code` is the name of one of Triton's codes
(INTERNAL unless given) and `message` the text, or `message_hex` its UTF-8 as hexadecimal digits: an adapter takes no
text that its task brought for the engine's own. `final` (true) puts the final flag on the error; with false a message
that carries only the flag follows, and with `then_tokens` so many more tokens come in between. `raise` fails by an
exception instead.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "model_code"))

import triton_python_backend_utils as pb_utils
from tiny import serving


class TritonPythonModel(serving.StreamingModel):
    def initialize(self, args):
        self._tokens = int(serving.setting(args, "TOKENS", "3"))
        self._requests = serving.RequestLoop(self._fail)

    async def _fail(self, request, sender):
        options = {"code": "INTERNAL", "message": "midfail was asked to fail here", "final": True}
        options |= serving.parameters(request)
        if "message_hex" in options:
            options["message"] = bytes.fromhex(options["message_hex"]).decode()
        _send_tokens(sender, int(options.get("tokens", self._tokens)))
        if options.get("raise"):
            raise RuntimeError(options["message"])
        code = getattr(pb_utils.TritonError, str(options["code"]).upper())
        serving.send_error(sender, options["message"], code=code, final=options["final"])
        if not options["final"]:
            _send_tokens(sender, int(options.get("then_tokens", 0)))
            serving.send_final(sender)


def _send_tokens(sender, count):
    for index in range(count):
        serving.send(sender, {"text_output": serving.strings(f"token{index} ")})
