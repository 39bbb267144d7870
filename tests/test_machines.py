"""machines.py and streams.py: shares of a batch, their mean, a stream for each picture, the ring.

The ranks are threads here, with a communicator of their own making; with real processes under
mpiexec it is tested below, where mpi4py is installed (slow: see .ci/run).
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tinydiff import checkpoint, data, machines, schedule
from tinydiff.app import together
from tinydiff.app.cli import main
from tinydiff.course.exercises import ROOT
from tinydiff.design import pipeline
from tinydiff.kernels import reference
from tinydiff.machines import ALONE, Team
from tinydiff.measure import evaluate
from tinydiff.streams import Streams
from tinydiff.train import Training, train
from tinydiff.unet import UNet

# --- a communicator made of threads ---


class _Threads:
    """As much of an mpi4py communicator as a Team needs, among threads"""

    def __init__(self, rank, size, table, barrier):
        self.rank, self.size, self.table, self.barrier = rank, size, table, barrier

    def allgather(self, item):
        self.barrier.wait(20)
        self.table[self.rank] = item
        self.barrier.wait(20)
        return list(self.table)

    def Iallreduce(self, message, total):
        assert message.flags.c_contiguous and message.dtype == total.dtype == np.float32
        total[...] = np.sum(self.allgather(message.copy()), axis=0, dtype=np.float32)
        return self

    def Test(self):
        return True


def among(size, work):
    """Run work(team) on as many threads as there are ranks -> what each gives"""
    table, barrier, given = [None] * size, threading.Barrier(size), [None] * size

    def run(rank):
        try:
            given[rank] = work(Team(_Threads(rank, size, table, barrier)))
        except BaseException as e:
            given[rank] = e
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    [t.start() for t in threads], [t.join() for t in threads]
    for item in given:
        if isinstance(item, BaseException):
            raise item
    return given


# --- shares ---


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("N", [1, 5, 64, 100])
def test_parts_are_all_rows_once_in_order_and_even(size, N):
    parts = []
    for rank in range(size):
        team = Team()
        team.rank, team.size = rank, size
        parts.append(list(range(N))[team.part(N)])
    assert sum(parts, []) == list(range(N))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_everything_stays_as_it_is():
    x, g = np.ones((3, 2)), np.ones(4)
    assert ALONE.share(x, None)[0] is x and ALONE.mean(g, 0.5) == (g, 0.5)
    assert ALONE.gather(x) is x and ALONE.alike(x) and ALONE.agreed(1.5) == 1.5
    assert not ALONE.asked([]) and ALONE.asked([signal.SIGTERM])
    assert together.team() is ALONE


def test_the_mean_weighs_uneven_shares():
    x = np.arange(20, dtype=np.float32).reshape(10, 2)

    def work(team):
        mine, nothing = team.share(x, None)
        assert nothing is None and len(mine) in (3, 4)
        return team.mean(mine.mean(0), np.float32(mine.mean()))

    for g, loss in among(3, work):
        np.testing.assert_allclose(g, x.mean(0), rtol=1e-6)
        np.testing.assert_allclose(loss, x.mean(), rtol=1e-6)


def test_more_processes_than_images_are_refused():
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 2"):
        among(3, lambda team: team.share(np.ones((2, 1))))


def test_rows_are_gathered_in_order_and_others_are_noticed():
    x = np.arange(14).reshape(7, 2)
    assert all(np.array_equal(x, y) for y in among(3, lambda t: t.gather(x[t.part(7)])))
    assert among(3, lambda t: t.alike(x, 3, "one")) == [True] * 3
    assert among(3, lambda t: t.alike(x, t.rank // 2)) == [False] * 3


def test_the_clock_is_the_first_ones_and_anyone_may_be_told_to_end():
    def work(team):
        team.share(np.ones((4, 1)))
        before = team.asked([1])
        team.note[:] = 10 + team.rank, team.rank == 1
        team.mean(np.ones(2, np.float32), np.float32(1))
        return before, team.agreed(99.0), team.asked([])

    assert among(2, work) == [(False, 10.0, True)] * 2


def test_who_was_told_to_end_does_not_wait_for_ever(monkeypatch):
    """Nor does it give up before it was told, or before the others have had their time."""
    monkeypatch.setattr(machines, "PATIENCE", 0.1)
    table = [None] * 2

    class Never(_Threads):
        def Iallreduce(self, message, total):
            return self

        def Test(self):
            if time.monotonic() - began > 0.3 and not team.told:
                team.told.append(signal.SIGTERM)
            return False

    team, began = Team(Never(0, 2, table, None)), time.monotonic()
    with pytest.raises(machines.Lost, match="no longer answers"):
        team.sum(np.ones(3, np.float32))
    assert team.told and 0.4 < time.monotonic() - began < 5


# --- a training ---

S = schedule.cosine(250)


def trained(team, steps, classes=(10,), batch=7, most=None):
    digits, rng = data.load("digits"), np.random.default_rng(0)
    model = UNet(8, width=16, multipliers=(1, 2), depth=1, classes=classes, rng=rng)
    run = Training(model, rng)
    run.team, run.most = team, most
    labels = digits.train_labels if classes else None
    training = train(run, S, digits.train, labels, batch=batch)
    for _ in range(steps):
        next(training)
    return run


@pytest.mark.parametrize("classes, most", [((10,), None), ((), None), ((10,), 2)])
def test_a_step_has_the_same_gradient_by_one_two_and_three(classes, most):
    """One rank after the other, in one thread: each takes its rows of the same draw.

    With a limit to its memory it takes these two at a time.
    """
    want = trained(_Alone(), 1, classes)
    for size in (2, 3):
        teams = [_Rank(rank, size) for rank in range(size)]
        runs = [trained(team, 1, classes, most=most) for team in teams]
        found = np.sum([team.sent for team in teams], axis=0)
        np.testing.assert_allclose(found[:-3], want.team.sent, rtol=1e-4, atol=2e-7)
        np.testing.assert_allclose(found[-3], want.loss, rtol=1e-6)
        assert [run.loss for run in runs] == [team.sent[-3] for team in teams]
        drawn = [run.rng.bit_generator.state for run in [want, *runs]]
        assert all(state == drawn[0] for state in drawn)


class _Alone(Team):
    """Remembers the gradient"""

    def mean(self, g, loss):
        self.sent = g.copy()
        return g, loss


class _Rank(Team):
    """One of several, which never hears of the others; remembers what it sends"""

    def __init__(self, rank, size):
        super().__init__()
        self.rank, self.size = rank, size

    def sum(self, message):
        self.sent = message.copy()
        return message


# --- a stream for each picture ---


def test_a_picture_has_the_same_noise_in_any_company():
    shape = (4, 3, 2)
    whole = Streams(5, range(64))
    first, second = whole.standard_normal((64, *shape)), whole.standard_normal((64, *shape))
    for rows in ([0], [63, 2, 7], range(10, 30)):
        some = Streams(5, rows)
        assert np.array_equal(some.standard_normal((len(rows), *shape)), first[list(rows)])
        assert np.array_equal(some.standard_normal((len(rows), *shape)), second[list(rows)])
    assert Streams(5, [1]).standard_normal((1, 3), np.float32).dtype == np.float32


def test_streams_are_independent_standard_normal_noise():
    z = np.stack([Streams(seed, range(200)).standard_normal((200, 500)) for seed in (0, 1)])
    assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01
    flat = z.reshape(400, 500)
    across = np.corrcoef(flat)[np.triu_indices(400, 1)]
    assert np.abs(across).max() < 0.25 and abs(across.std() * np.sqrt(500) - 1) < 0.02


def test_what_pictures_share_is_the_same_for_all_of_them():
    few, many = Streams(2, [9]), Streams(2, range(40))
    for _ in range(3):
        assert np.array_equal(few.integers(0, (16, 8)), many.integers(0, (16, 8)))
    assert not np.array_equal(Streams(1, [0]).integers(0, [99] * 9), few.integers(0, [99] * 9))


def test_streams_of_another_number_of_pictures_are_refused():
    with pytest.raises(ValueError, match="the streams of 3 pictures"):
        Streams(0, range(3)).standard_normal((2, 4))


def test_kernels_draw_from_them():
    got = reference.normal(Streams(1, [4, 2]), (2, 3), np.float32)
    assert np.array_equal(got, Streams(1, [4, 2]).standard_normal((2, 3), np.float32))


def test_sample_draws_the_first_of_more(tmp_path, monkeypatch):
    from PIL import Image

    noise = []

    def draw(pipe, labels, rng, *how, **options):
        noise.append(rng.standard_normal((len(labels), 5)))
        return before(pipe, labels, rng, *how, **options)

    before = pipeline.Pipeline.draw
    monkeypatch.setattr(pipeline.Pipeline, "draw", draw)
    for n in (3, 16):
        words = ["sample", "digits", "--label", "7", "--n", str(n), "--steps", "2", "--seed", "4"]
        assert main([*words, "--out", str(tmp_path / f"{n}.png")]) == 0
    few, more = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in (3, 16))
    assert few.std() > 10 and np.array_equal(few[2:34, 2:100], more[2:34, 2:100])
    assert np.array_equal(noise[1], Streams(4, range(16)).standard_normal((16, 5)))


def test_evaluate_draws_alike_in_any_batch(monkeypatch):
    pipe, labels = pipeline.Pipeline.load("digits"), np.arange(9)[:, None] % 10
    whole, _ = evaluate.sample_all(pipe, labels, 6, ("ddim", 2, "even"))
    monkeypatch.setattr(evaluate, "BATCH", 4)
    parts, _ = evaluate.sample_all(pipe, labels, 6, ("ddim", 2, "even"))
    assert np.array_equal(whole, parts)
    shared = among(2, lambda team: Pieces(team).sample(pipe, labels))
    assert all(np.array_equal(whole, x) for x in shared)


class Pieces:
    """One rank of evaluate.sample_all; the threads take turns"""

    turn = threading.Lock()

    def __init__(self, team):
        self.team, self.size = team, team.size

    def part(self, n):
        return self.team.part(n)

    def gather(self, x):
        self.turn.release()
        x = self.team.gather(x)
        self.turn.acquire()
        return x

    def sample(self, pipe, labels):
        with self.turn:
            return evaluate.sample_all(pipe, labels, 6, ("ddim", 2, "even"), team=self)[0]


# --- the ring ---


class Wires:
    """What is sent: wires(r, piece) gives the piece as it arrives, and keeps its size"""

    def __init__(self):
        self.sent = []

    def __call__(self, r, piece):
        piece = np.array(piece)
        self.sent.append((int(r), piece.size))
        return piece


@pytest.mark.exercise("machines.ring_allreduce")
@pytest.mark.parametrize("N, P", [(2, 6), (3, 9), (4, 8), (3, 10), (5, 7), (3, 2)])
def test_ring_allreduce_gives_every_machine_the_sum(N, P, rng):
    arrays = [rng.standard_normal(P) for _ in range(N)]
    kept = [a.copy() for a in arrays]
    sums, want = machines.ring_allreduce(arrays, Wires()), np.sum(kept, axis=0)
    assert len(sums) == N, f"{N} machines: one array for each is wanted; came {len(sums)}"
    for r, got in enumerate(sums):
        case = f"{N} machines, P = {P}: machine {r}"
        assert np.shape(got) == (P,), f"{case} has shape {np.shape(got)}, expected {(P,)}"
        k = int(np.argmax(np.abs(got - want)))
        why = f"{case} has {got[k]:.6g} at place {k}; the sum is {want[k]:.6g}"
        assert abs(got[k] - want[k]) < 1e-12, why
        assert np.array_equal(got, sums[0]), f"{case} has not the same bits as machine 0"
    why = "it changes the arrays that it was given"
    assert all(np.array_equal(a, b) for a, b in zip(arrays, kept, strict=True)), why


@pytest.mark.exercise("machines.ring_allreduce")
@pytest.mark.parametrize("N", [2, 3, 5])
def test_ring_allreduce_sends_as_little_as_can_be_and_evenly(N, rng):
    """In every round each machine sends one piece of P / N: nobody is the centre."""
    P, wires = 4 * N, Wires()
    machines.ring_allreduce([rng.standard_normal(P) for _ in range(N)], wires)
    for r in range(N):
        sizes = [size for who, size in wires.sent if who == r]
        want, case = 2 * (N - 1) * 4, f"{N} machines, P = {P}: machine {r}"
        why = f"{case} sends {sum(sizes)} numbers, expected 2 (N - 1) / N P = {want}"
        assert sum(sizes) == want, why
        assert set(sizes) == {4}, f"{case} sends pieces of {sorted(set(sizes))}, expected P / N = 4"
    rounds = [wires.sent[i : i + N] for i in range(0, len(wires.sent), N)]
    whole = all({who for who, _ in each} == set(range(N)) for each in rounds)
    assert whole, "in each round all machines send, once each, before any of them adds"


@pytest.mark.exercise("machines.ring_allreduce")
def test_ring_allreduce_relies_on_what_arrives(rng):
    """Machines have no memory in common: a wire that doubles what it carries changes the sums."""
    a, b = rng.standard_normal((2, 4))
    got = machines.ring_allreduce([a, b], lambda r, piece: 2 * np.array(piece))
    first, second = (b + 2 * a)[:2], (a + 2 * b)[2:]
    want = [np.r_[2 * first, second], np.r_[first, 2 * second]]
    why = "what machine r + 1 adds, or keeps, is not what `send` of machine r has returned"
    assert all(np.allclose(x, y) for x, y in zip(got, want, strict=True)), why


@pytest.mark.exercise("machines.ring_allreduce")
def test_ring_allreduce_of_one_machine_sends_nothing():
    a, wires = np.array([1.0, -2.0]), Wires()
    (got,) = machines.ring_allreduce([a], wires)
    assert np.array_equal(got, a) and not wires.sent, "one machine has nothing to send or to add"
    assert got is not a and not np.shares_memory(got, a), "what comes back is the array itself"


# --- real processes ---

MPI4PY = importlib.util.find_spec("mpi4py")
MPIEXEC = Path(sys.executable).with_name("mpiexec")
WORDS = ["train", "digits", "--width", "16", "--batch", "16"]
needs_mpi = pytest.mark.skipif(not MPI4PY, reason="needs mpi4py: pip install -e '.[mpi]'")


def mpiexec(n, *words):
    """Write the command that starts n processes of `python -m tinydiff` -> list of words"""
    more = ["--allow-run-as-root", "--oversubscribe", "-n", str(n)]
    return [str(MPIEXEC), *more, sys.executable, "-m", "tinydiff", *map(str, words)]


def run(command):
    options = {"capture_output": True, "text": True, "timeout": 120, "cwd": ROOT}
    return subprocess.run(command, **options, env=os.environ | {"NUMBA_NUM_THREADS": "1"})


@pytest.mark.slow
@needs_mpi
def test_a_training_over_one_two_and_three_processes_mpi(tmp_path):
    """200 steps: 1e-5 between different numbers of processes, the same bits for the same one.

    And begun by two, resumed by three.
    """
    runs = {}
    for name, n in (("1", 1), ("2", 2), ("2 again", 2), ("3", 3)):
        done = run(mpiexec(n, *WORDS, "--steps", 200, "--out", tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == 1 and done.stderr.count("100%") == 1
        runs[name], _, meta = checkpoint.load(tmp_path / name / "digits.npz")
        assert meta["history"][-1][0] == 200
    for name in ("2", "3"):
        for kind in ("theta", "ema"):
            a, b = (np.asarray(getattr(runs[k], kind)) for k in ("1", name))
            assert 0 < np.abs(a - b).max() < 1e-5
    assert np.array_equal(runs["2"].theta, runs["2 again"].theta)
    begun = tmp_path / "begun"
    half = run(mpiexec(2, *WORDS, "--steps", 100, "--out", begun))
    assert half.returncode == 0, half.stderr
    go_on = ["train", "digits", "--steps", 200, "--out", begun, "--resume", begun / "digits.npz"]
    done = run(mpiexec(3, *go_on))
    assert done.returncode == 0, done.stderr
    assert checkpoint.load(begun / "digits.npz")[0].step == 200


@pytest.mark.slow
@needs_mpi
def test_a_dead_process_ends_the_job_and_leaves_the_checkpoint_mpi(tmp_path):
    words = [*WORDS, "--minutes", 5, "--save-every", 0.2, "--out", tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(mpiexec(2, *words), cwd=ROOT, **pipes)
    path, began = tmp_path / "digits.npz", time.monotonic()
    while not path.exists() and time.monotonic() - began < 100:
        time.sleep(0.1)
    time.sleep(1)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    rank = lambda pid: b"OMPI_COMM_WORLD_RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()
    (second,) = [int(pid) for pid in children if rank(pid)]
    os.kill(second, signal.SIGKILL)
    began = time.monotonic()
    _, said = job.communicate(timeout=30)
    assert time.monotonic() - began < 5 and job.returncode != 0
    assert "rank 1" in said and "Traceback" not in said
    assert checkpoint.load(path)[0].step > 0


@pytest.mark.slow
@needs_mpi
def test_pictures_and_tables_are_the_same_by_one_and_three_mpi(tmp_path):
    table = ["evaluate", "digits", "--n", 64, "--samplers", "ddim:3", "--json"]
    found = []
    for n in (1, 3):
        draw = ["sample", "portraits", "--steps", 3, "--n", 5, "--out", tmp_path / f"{n}.png"]
        done = run(mpiexec(n, *draw))
        assert done.returncode == 0 and done.stdout.count("\n") == 1, done.stderr
        done = run(mpiexec(n, *table, "--out", tmp_path / "table.png"))
        assert done.returncode == 0, done.stderr
        row = json.loads(done.stdout)
        del row["cost"], row["samplers"][0]["seconds"]
        found.append(row)
    assert found[0] == found[1]
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "3.png").read_bytes()


@pytest.mark.slow
@needs_mpi
def test_a_class_is_graded_alike_mpi(tmp_path):
    answer = "import numpy as np\ndef v_target(s, x0, t, eps):\n    return eps - {} * x0\n"
    for k, name in enumerate(("ann", "bob", "cyd")):
        file = tmp_path / "class" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(answer.format(k))
    words = ["grade", tmp_path / "class", "--lessons", "2", "--out"]
    alone = run([sys.executable, "-m", "tinydiff", *map(str, words), str(tmp_path / "1.csv")])
    three = run(mpiexec(3, *words, tmp_path / "3.csv"))
    assert (alone.returncode, three.returncode) == (0, 0), three.stderr
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()
    feedback = [sorted((tmp_path / f"{n}_feedback").iterdir()) for n in (1, 3)]
    assert [f.read_bytes() for f in feedback[0]] == [f.read_bytes() for f in feedback[1]]


@pytest.mark.slow
@needs_mpi
@pytest.mark.parametrize(
    "words, says",
    [
        (["gallery"], "mpiexec is for train, sample, evaluate, grade: `gallery` runs without it"),
        ([*WORDS[:-1], "2"], "3 processes cannot share a batch of 2: start fewer"),
        (["sample", "digits", "--n", "2"], "3 processes cannot share --n 2: start fewer"),
        (["train", "nothing"], "no data set 'nothing'"),
    ],
)
def test_bad_input_is_said_once_mpi(words, says, tmp_path):
    out = ["--out", tmp_path / ("x.png" if words[0] in ("gallery", "sample") else "x")]
    done = run(mpiexec(3, *words, *out))
    assert done.returncode != 0 and done.stderr.count("tinydiff: ") == 1
    assert f"tinydiff: {says}" in done.stderr and "Traceback" not in done.stderr


# --- without mpi4py ---


def test_what_mpiexec_says_is_read_from_the_environment(monkeypatch):
    for name in (*together.SIZES, *together.RANKS, *together.ON_THIS_HOST):
        monkeypatch.delenv(name, raising=False)
    assert (together.started(), together.rank()) == (1, 0)
    monkeypatch.setenv("PMIX_RANK", "2")  # a launcher that does not say how many
    assert (together.started(), together.rank()) == (0, 2)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    assert (together.started(), together.rank()) == (4, 3)
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    assert (together.started(), together.rank()) == (1, 0)


def test_mpiexec_without_mpi4py_is_one_line():
    code = "import sys; sys.modules['mpi4py'] = None; from tinydiff.app.cli import main; "
    code += "import importlib.util as u; f = u.find_spec; "
    code += "from tinydiff.app import together; together.WAIT = 0; "
    code += "together.find_spec = lambda n: None if n == 'mpi4py' else f(n); "
    code += "sys.exit(main(['sample', 'digits', '--n', '4', '--out', '/nowhere/x.png']))"
    done = {}
    for rank in ("0", "1"):
        around = os.environ | {"PMI_SIZE": "2", "PMI_RANK": rank}
        options = {"capture_output": True, "text": True, "cwd": ROOT, "env": around}
        done[rank] = subprocess.run([sys.executable, "-c", code], **options)
    assert done["0"].returncode == done["1"].returncode == 2
    assert done["0"].stderr.count("\n") == 1 and done["0"].stderr.startswith("tinydiff: ")
