"""What the innermost loops of the convolutions became: python tests/bench/assembly.py

It compiles them anew for this processor, or for the one that NUMBA_CPU_NAME and NUMBA_CPU_FEATURES
name, and counts in the loop that keeps the most sums in registers: multiply-adds (without FMA:
multiplications and additions) of whole vectors and of single numbers, vectors read and written, and
how many of these lie on the stack, because the registers were not enough. So it also says of a
processor that is only emulated whether P and V suit it. SHOW=1 prints the loops.
"""

import os
import re
import tempfile

os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()  # what is read from a cache has no assembly

import numpy as np
from numba.core.registry import cpu_target

from tinydiff.kernels import cpu, cpu_direct, cpu_microkernel, cpu_winograd

WORK = re.compile(r"v?f?n?m(?:ul|add|sub|la|ls)\d*[ps]?s?$|fmla|fmul|vf[a-z]*add")
KERNELS = {
    "direct, forward": cpu_direct._conv_alone,
    "direct, gradient of w": cpu_direct._grad_w,
    "Winograd, forward": cpu_winograd._conv_tiles,
    "Winograd, gradient of w": cpu_winograd._sum_over_tiles,
}


def run():
    """Call what needs these kernels, so that they are compiled for float32."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.standard_normal(shape, dtype=np.float32)
    x, w = normal(1, 10, 10, 16), normal(3, 3, 16, 16)
    cpu_direct.conv2d(x, w)
    cpu_direct.conv2d_grad_w(x, normal(1, 8, 8, 16))
    x, g = normal(9, 14, 16, 16), normal(9, 14, 16, 32)
    cpu.conv2d(x, normal(3, 3, 16, 32), "zeros")
    cpu.conv2d_grad_w(x, g, 3, "zeros")


def loops(assembly):
    """List innermost loops, from a label to a jump back to it -> lists of instructions"""
    body, label = [], None
    for line in assembly.splitlines():
        if found := re.match(r"(\.?\w+):", line):
            body, label = [], found[1]
        elif re.match(r"\s+[a-z]", line):
            body.append(line.strip())
            if label and re.search(rf"^(?:j|b|cb|tb).*\W{re.escape(label)}$", line.strip()):
                yield list(body)
                label = None


def is_vector(line):
    """Tell whether an instruction works on whole vectors, on x86-64 or aarch64"""
    name = line.split()[0]
    return bool(re.search(r"\.[42][sd]\b|\bq\d", line) or re.search(r"ps$|dqu$|dqa$", name))


def counted(body):
    """Count what a loop is made of -> dict"""
    names = [(line.split()[0], line) for line in body]
    work = [line for name, line in names if WORK.match(name) and "imul" not in name]
    moves = [line for name, line in names if re.match(r"v?mov[au]ps|v?movdq|ld[rp]$|st[rp]$", name)]
    vectors = [line for line in moves if is_vector(line)]
    sums = {re.split(r"[\s,]+", line)[-1 if "%" in line else 1] for line in work if is_vector(line)}
    return {
        "sums in registers": len(sums),
        "multiply-adds of vectors": sum(map(is_vector, work)),
        "of single numbers": sum(not is_vector(line) for line in work),
        "vectors moved": len(vectors),
        "on the stack": sum(bool(re.search(r"%rsp|\[sp", line)) for line in vectors),
    }


def main():
    """Print a table."""
    run()
    name, features = cpu_target.target_context.codegen().magic_tuple()[1:]
    wide = [word for word in ("avx512f", "avx2", "avx", "fma", "neon") if f"+{word}" in features]
    print(f"for {name}, {', '.join(wide) or 'none of AVX'}: P = {cpu_microkernel.P}")
    for kernel, f in KERNELS.items():
        f = f if hasattr(f, "inspect_asm") else f.__wrapped__  # see cpu_threads.guarded
        assembly = "\n".join(f.inspect_asm().values())
        body = max(loops(assembly), key=lambda body: counted(body)["sums in registers"])
        print(f"{kernel}: " + ", ".join(f"{what} {n}" for what, n in counted(body).items()))
        if os.environ.get("SHOW"):
            print(*body, sep="\n")


if __name__ == "__main__":
    main()
