"""What packs are worth: captions a request and CPU a caption at 1, 4, 16 and 32 images each.

    python bench/packing.py [--rows N] [--rounds N] [--limit RATIO]

The raw loop (`wire.py raw`, one image a request) runs in between as the measure. With --limit
the command fails when a caption out of a pack of 16 costs more than RATIO of a raw request.
"""

from __future__ import annotations

import argparse
import statistics

from overhead import FEW, fewest, ours, raw, service

SIZES = (1, 4, 16, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float)
    asked = parser.parse_args()
    with service() as base:
        few = fewest([raw(base, FEW, 64) for _ in range(asked.rounds)])[0]
        loops = [raw(base, asked.rows, 64)[0] for _ in range(asked.rounds)]
        loop = (statistics.median(loops) - few) / (asked.rows - FEW) * 1000
        print(f"raw loop: {loop:.3f} CPU-ms a request, one image each")
        print("images a request   CPU-ms a caption   to raw   captions a CPU-second")
        ratios = {}
        for size in SIZES:
            # As many requests of start-up work for each size: the same rows in the short run.
            start = fewest([ours(base, FEW, 64, size) for _ in range(asked.rounds)])[0]
            runs = [ours(base, asked.rows, 64, size)[0] for _ in range(asked.rounds)]
            each = (statistics.median(runs) - start) / (asked.rows - FEW) * 1000
            ratios[size] = each / loop
            print(f"{size:16}   {each:16.3f}   {ratios[size]:6.2f}   {1000 / each:21,.0f}")
    if asked.limit is not None and ratios[16] > asked.limit:
        raise SystemExit(f"packs of 16: {ratios[16]:.2f} of a raw request, above {asked.limit}")


if __name__ == "__main__":
    main()
