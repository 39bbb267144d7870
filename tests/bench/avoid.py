"""What --avoid avoids, and what --tries is good for: python tests/bench/avoid.py [--n 128]

Portraits are drawn as `sample` draws them, and the shipped judge reads which still show what was to
be avoided: without --avoid, with it at several strengths of guidance, and as the best of several
tries. Then held-out portraits get a hat, as `edit --change` does it; a second judge, which chooses
nothing, reads the result, too.
"""

import argparse

import numpy as np

from tinydiff import data
from tinydiff.app import judges, reached
from tinydiff.app.cli import USUAL
from tinydiff.design.pipeline import Pipeline, parse_labels
from tinydiff.measure import classifier
from tinydiff.streams import Streams

CASES = ("hat=none", "glasses=none", "beard=none", "hair=long", "mouth=happy", "background=white",
         "hat=none glasses=none", "hat=red glasses=dark background=blue")  # fmt: skip
WAYS = ((1.5, 1), (2.0, 1), (3.0, 1), (5.0, 1), (2.0, 4), (2.0, 8))  # guidance, tries


def draw(pipe, avoid, n, w, seed):
    """Draw n portraits as `sample` does: avoid, a row of labels, or None -> (n, H, W, C)"""
    free = np.tile(parse_labels(pipe.labels, []), (n, 1))
    avoid = None if avoid is None else np.tile(avoid, (n, 1))
    rng = Streams(seed, range(n))
    return pipe.draw(free, rng, *USUAL["sample"], w=w, avoid=avoid)[-1]


def change(pipe, read, n):
    """Print which share of n held-out portraits has a red hat after `edit`, by either judge."""
    portraits = data.load("portraits")
    second = classifier.unpacked(*classifier.learn(portraits, 1500, seed=1))
    bare = portraits.test_labels[:, 0] == 0
    x, before = (np.asarray(v[bare][:n]) for v in (portraits.test, portraits.test_labels))
    after = before.copy()
    after[:, 0] = 6
    asked = reached.wished(pipe, parse_labels(pipe.labels, ["hat=red"]))
    for w in (2.0, 4.0):
        for tries in (1, 4, 8):
            rows, rng = np.repeat(np.arange(len(x)), tries), np.random.default_rng(0)
            drawn = pipe.change(x[rows], before[rows], after[rows], rng, w)
            drawn = drawn[reached.best(asked.log_p(read(drawn)), tries)]
            hats = np.asarray(second(drawn)[0]).argmax(1) == 6
            outside = np.abs(drawn - x)[:, 8:].max(-1) > 0.04
            said = f"| {w:g} | {tries} | {asked.met(read(drawn)).mean():.0%} | {hats.mean():.0%} |"
            print(f"{said} {outside.sum((1, 2)).mean():.1f} |", flush=True)


def main():
    """Print a row for each case: the share of portraits that show nothing of what is avoided."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=128)
    n = parser.parse_args().n
    pipe = Pipeline.load("portraits")
    read, free = judges.reader("portraits", pipe), parse_labels(pipe.labels, [])
    print("| to avoid | without | " + " | ".join(f"w = {w:g}, {t} tries" for w, t in WAYS) + " |")
    plain = read(draw(pipe, None, n, 1.0, 0))
    for case in CASES:
        asked = reached.Asked(pipe.labels, free, parse_labels(pipe.labels, case.split()))
        shares = [asked.met(plain).mean()]
        for w, tries in WAYS:
            reading = read(draw(pipe, asked.avoided, n * tries, w, 0))
            best = reached.best(asked.log_p(reading), tries)
            shares.append(asked.met([log_p[best] for log_p in reading]).mean())
        print(f"| {case} | " + " | ".join(f"{share:.0%}" for share in shares) + " |", flush=True)
    print(
        "\n| w | tries | red hats, by the judge that chooses | by a second one | below the eyes |"
    )
    change(pipe, read, min(n, 60))


if __name__ == "__main__":
    main()
