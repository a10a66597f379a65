"""Many containers at once: what listing them takes, and how soon a new engine has found all of them again.

Usage: many.py [NUMBER]. Prints milliseconds, beside `python3 -c pass` on the same machine.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from conftest import why_not
from engines import Engine

NUMBER = 500
_ROUNDS = 9


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else NUMBER
    engine = Engine("portable" if why_not("linux") else "linux").start()
    try:
        engine.base()

        def begin(_: int) -> None:
            engine.jocker("run", "-d", "--network", "none", "base", "sleep", "100000")

        with ThreadPoolExecutor(4) as pool:
            say(f"{number} containers started", lambda: list(pool.map(begin, range(number))), 1)
        say("python3 -c pass", lambda: subprocess.run([sys.executable, "-c", "pass"], check=True))
        say("jocker ps -a", lambda: engine.jocker("ps", "-a"))
        say("the engine stopped", lambda: engine.kill(signal.SIGTERM), 1)
        say("a new one has found all of them", lambda: again(engine, number), 1)
        containers = engine.jocker("ps", "-aq").stdout.split()
        say("all removed", lambda: engine.jocker("rm", "-f", *containers), 1)
    finally:
        engine.close()


def again(engine: Engine, number: int) -> None:
    """From the start of the engine until all are listed, running."""
    engine.start()
    while engine.jocker("ps", "--format", "{{.State}}").stdout.split().count("running") < number:
        time.sleep(0.01)


def say(what: str, action: Callable[[], object], rounds: int = _ROUNDS) -> None:
    """The median."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        times.append((time.perf_counter() - began) * 1000)
    print(f"  {what:<44} {statistics.median(times):9.1f} ms", flush=True)


if __name__ == "__main__":
    main()
