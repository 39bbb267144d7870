"""Measure how long each live hand takes to answer one drag: python tests/bench/hands.py [--n 15]

Printed are the median and the worst of n moves, in milliseconds, without the way to the browser and
back (about 20 ms), and the processor time, which on a busy machine says more when run with
NUMBA_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1. An answer should take less than 500 ms on two cores.
"""

import argparse
import statistics
import time

from tinydiff.studio import hands, paint, plane

STROKE = "".join("14213d" if 40 < i % 64 < 50 else paint.FREE for i in range(256))
WAYS = {  # name: (what makes the hand, what is moved besides the seed)
    "guidance, 6 portraits, 10 steps": (hands.guidance, {"w": 3.0}),
    "guidance, 25 steps": (hands.guidance, {"w": 3.0, "steps": 25}),
    "sampling, 10 calls": (hands.sampling, {}),
    "sampling, 30 calls of heun": (hands.sampling, {"calls": 30, "sampler": "heun"}),
    "strength 1": (hands.strength, {"strength": 1.0}),
    "mask": (paint.mask, {}),
    "mask, 3 rounds, a red hat": (paint.mask, {"rounds": 3, "hat": "red"}),
    "sketch": (paint.sketch, {}),
    "sketch, w = 3": (paint.sketch, {"w": 3.0}),
    "alphabet": (paint.alphabet, {}),
    "alphabet, w = 2": (paint.alphabet, {"w": 2.0}),
    "pattern": (paint.pattern, {}),
    "pattern, painted": (paint.pattern, {"drawing": STROKE}),
    "pattern, a main colour": (paint.pattern, {"use": paint.MAIN, "drawing": STROKE}),
    "plane, ddim": (plane.playground, {}),
    "plane, ddpm, 400 points": (
        plane.playground,
        {"sampler": "ddpm", "points": [[i / 100 - 2, i % 7 / 3 - 1] for i in range(400)]},
    ),
    "plane, heun, 50 steps": (plane.playground, {"sampler": "heun", "steps": 50}),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=15)
    n = parser.parse_args().n
    print(f"{'hand':34} median   worst   processor   (ms for one answer)")
    for name, (make, moved) in WAYS.items():
        hand, taken, busy = make(), [], []
        hand.move(**moved)
        for seed in range(n):
            began, worked = time.perf_counter(), time.process_time()
            hand.move(**({"seed": seed} if "seed" in hand.values else {"eta": seed / n}))
            taken.append(1000 * (time.perf_counter() - began))
            busy.append(1000 * (time.process_time() - worked))
        middle, cpu = statistics.median(taken), statistics.median(busy)
        print(f"{name:34} {middle:6.0f}  {max(taken):6.0f}      {cpu:6.0f}")


if __name__ == "__main__":
    main()
