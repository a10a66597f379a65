"""`make faults`: all kinds of faults on all platforms that can run here, and a table of what came of it."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import boundaries  # noqa: E402
import crashes  # noqa: E402
import links  # noqa: E402
import outages  # noqa: E402
import storm  # noqa: E402
from harness import FaultyEngine, Tally  # noqa: E402

from conftest import why_not  # noqa: E402


def main() -> None:
    """Exit status 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--platform", choices=("linux", "portable"), action="append")
    parser.add_argument("--only", choices=("boundaries", "crashes", "outages", "storm"), action="append")
    parser.add_argument("--every", type=int, default=1, help="each n-th boundary only")
    parser.add_argument("--kills", type=int, default=200, help="kills of the engine in the storm")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    given = parser.parse_args()
    tally, began = Tally(), time.monotonic()
    print(f"seed {given.seed}", flush=True)
    for platform in given.platform or ("linux", "portable"):
        if reason := why_not(platform):
            print(f"{platform}: skipped, {reason}")
            continue
        _platform(platform, given, tally)
    print(tally.table())
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(1 if tally.lost else 0)


def _platform(platform: str, given: argparse.Namespace, tally: Tally) -> None:
    wanted = given.only or ("boundaries", "crashes", "outages", "storm")
    if "boundaries" in wanted:
        engine = FaultyEngine(platform).start()
        engine.base()
        boundaries.run(engine, tally, given.every, [*boundaries.OPERATIONS, *boundaries.UPKEEP])
        if engine.rpc("engine.info")["platform"]["network"] == "veth":
            boundaries.run(engine, tally, given.every, links.OPERATIONS)
        engine.close()
    if "crashes" in wanted:
        engine = FaultyEngine(platform).start()
        engine.base()
        crashes.run(engine, tally)
        engine.close()
    if "outages" in wanted:
        engine = FaultyEngine(platform).start()
        engine.base()
        outages.run(engine, tally)
        engine.close()
        if os.geteuid() == 0:
            engine = FaultyEngine(platform)
            engine.on_small_disk("48m")
            engine.start()
            engine.base()
            outages.full_disk(engine, tally)
            engine.close()
    if "storm" in wanted:
        engine = FaultyEngine(platform).start()
        engine.base()
        storm.run(engine, tally, given.kills, given.seed)
        engine.close()


if __name__ == "__main__":
    main()
