"""tinydiff: diffusion models from scratch, small enough to read in an afternoon.

The afternoon is what lies flat in this folder, in reading order; imports only run downwards:

    the diffusion tower: plain arrays        the network tower: Tensors
      schedule   beta, alpha_bar, SNR          autodiff   record the operations, walk them backwards
      diffusion  the forward process q         gradcheck  is this derivative right?
      exact      perfect denoisers             ops        every operation, value beside derivative
      sample     the reverse process           nn, lora   layers; low-rank changes of them
      guide      towards what is asked for     optim      Adam, EMA
                                               unet       the network
                                               finetune   another one as its start

    train                      the bridge: Algorithm 1 of DDPM
    data, plot, player         images in, pictures out, and moving in a notebook
    augment                    images flipped and shifted, and the network told
    fields, checkpoint         what a file may say of its weights; weights on disk
    streams, machines          random numbers for each picture; a batch shared by many machines
    files                      that appear whole or not at all
    kernels                    the ground: reference (NumPy), cpu (Numba), cuda

Around it stand the wings, a folder each:

    design    draw on request, edit, restore, restyle, recolour
    collect   your own pictures: found, described, made ready for training
    beyond    likelihoods, straight paths, learned variances and noise schedules
    measure   metrics, baselines, the classifiers that judge, one table, how to fool them
    course    exercises, verdicts, handouts, the grading of a class; grade.py is its door
    studio    live pictures in notebooks: sliders, an easel, a plane to click into
    app       the command line

former keeps the names of version 0.1 alive, for notebooks and answers written with it.

Sizes are single capitals, the same everywhere:

    N batch    H W pixels    C channels in    O channels out    K kernel side    G groups
    L = H W tokens    E embedding    T diffusion steps    M data set size, or rows of a table
    D = H W C values of an image    F features of an image    P parameters of a model
"""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd() != os.path.dirname(__path__[0]):
    del sys.path[0]  # of `python -m tinydiff` in a class's folder: a student's numpy.py lies there

from . import former  # noqa: E402, F401 (makes the old names importable; loads nothing)

__version__ = "0.2.0"
