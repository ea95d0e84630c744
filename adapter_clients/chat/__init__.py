"""`ChatClient`: a chat with a model, on the contract.

`client` is what callers see, `stream` an answer as it comes, `answer` what it came to. `exchange` brings a question to
the engine: `question` and `pictures` make its messages, `models` says whether the model can take them, `history` and
`turn_taking` keep a session. `sync` is all of it for scripts.
"""

from adapter_clients.chat.answer import ChatAnswer
from adapter_clients.chat.client import ChatClient
from adapter_clients.chat.health import ChatHealth
from adapter_clients.chat.question import ChatQuestion
from adapter_clients.chat.settings import ChatSettings
from adapter_clients.chat.stream import ChatStream
from adapter_clients.chat.sync import SyncChatClient

__all__ = [
    "ChatAnswer", "ChatClient", "ChatHealth", "ChatQuestion", "ChatSettings", "ChatStream", "SyncChatClient",
]  # fmt: skip
