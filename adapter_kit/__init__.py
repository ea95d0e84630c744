"""What every adapter needs beside the contract, and nobody should have to write twice.

`text` makes text of pieces of bytes (`stops` cuts it), `watchdog` notices a silent engine, `retries` says what is tried
again, `tls` and `secret_file` read certificates and tokens again when they are replaced, `privacy` keeps prompts out of
foreign texts, `chat_template` makes one prompt of a conversation, `tool_calls` and `reasoning` tell the calls and the
thoughts in a model's text from its answer (`answers` reads both, and `tool_choice` has one called), `images` reads
pictures, `http` and `sse` speak to engines that stream, `installing` says how to install what is missing, and
`standard_streams` lets a program write to what may be full or closed. Each module is imported by its own name:

    from adapter_kit.watchdog import Watchdog
"""
