"""All windows of hostile clients at once, from a process of their own, until it is ended: `attack_all.py PORT`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from hostile.http_clients import WINDOWS, Attack
    from hostile.served import Target

    target, never = Target(int(sys.argv[1])), threading.Event()
    for name, (client, threads) in WINDOWS.items():
        for seed in range(threads if name != "nobody" else 0):
            threading.Thread(target=client, args=(Attack(target, never, seed),), name=name, daemon=True).start()
    print("attacks", flush=True)
    never.wait()
