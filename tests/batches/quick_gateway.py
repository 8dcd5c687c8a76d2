"""The gateway, but it looks after running work each second: nobody waits for a minute in a test."""

import sys

from gateway.batches.settler import Settler
from gateway.cli import main

if __name__ == "__main__":
    assert Settler.__init__.__kwdefaults__ is not None
    Settler.__init__.__kwdefaults__["poll_seconds"] = 1.0
    sys.exit(main())
