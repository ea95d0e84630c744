"""What every adapter needs beside the contract, and nobody should have to write twice.

`text` makes text of pieces of bytes (`stops` cuts it), `watchdog` notices a silent engine, `retries` says what is tried
again, `tls` and `secret_file` read certificates and tokens again when they are replaced, `privacy` keeps prompts out of
foreign texts, and `chat_template` makes one prompt of a conversation. Each module is imported by its own name:

    from adapter_kit.watchdog import Watchdog
"""
