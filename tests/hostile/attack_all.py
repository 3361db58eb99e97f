"""All windows of hostile clients at once, from a process of their own, until it is ended: `attack_all.py PORT`.

As from other machines: what the attackers themselves compute takes no time that the daemon wants.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from hostile.http_clients import WINDOWS, Attack
    from hostile.served import Target

    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    target, never = Target(int(sys.argv[1])), threading.Event()
    for name, (client, threads) in WINDOWS.items():
        for seed in range(threads if name != "nobody" else 0):
            threading.Thread(target=client, args=(Attack(target, never, seed),), name=name, daemon=True).start()
    print("attacks", flush=True)
    never.wait()
