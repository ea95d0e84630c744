from pathlib import Path
import time
class LostPort(Exception): port=0
def tail(path, lines=20):
    return "\n".join(Path(path).read_text(errors="replace").splitlines()[-lines:])
class Startup:
    def __init__(self, **k): self.__dict__.update(k)
    def wait(self):
        from .readiness import is_ready
        while time.monotonic()<self.deadline:
            if is_ready(self.http_port): return
            if self.process.exit_code is not None: raise RuntimeError(tail(self.log_file,60))
            time.sleep(.05)
        raise TimeoutError(tail(self.log_file,60))
