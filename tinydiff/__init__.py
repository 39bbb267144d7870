"""tinydiff: diffusion models from scratch, small enough to read in an afternoon.

The map, in reading order (imports only ever run downwards):

    the diffusion tower: plain arrays        the network tower: Tensors
      schedule    beta, alpha_bar, SNR         autodiff    record the operations, walk them backwards
      diffusion   the forward process q        gradcheck   is this derivative right?
      exact       perfect denoisers            ops         every operation, value beside derivative
      sample      the reverse process          nn, optim   layers; Adam, EMA
      guide       towards what is asked for    unet        the network
      edit        what designers do with it    classifier  the judge: what does this image show?
      restore     a degraded picture
      colour      a palette, a main colour
      likelihood  how probable is an image?
      metrics     how good, how diverse?       gram        style before diffusion: matching Gram matrices
      baselines   what must be beaten first
    train         the bridge: Algorithm 1 of DDPM
    style         a network that looks at a source: the same in another style, an alphabet from a few letters
    variance, flow, learned                    beyond: a learned variance, straight paths, a learned noise schedule
    data, checkpoint, learn, draw, plot        images in, weights on disk, a whole training, drawing on request, pictures
    evaluate, gallery                          one table that judges a model; one page that shows what it can do
    commands, studio, __main__                 what the commands do that train and judge, and those that draw; the command line
    exercises, calls, diagnosis, grade, submission        is this answer right, and if not, why? for a cell, for a file
    handout, classroom                         the course handed out without the answers; a class graded
    kernels       the ground both towers stand on: reference (NumPy), cpu (Numba), cuda

Sizes are single capitals, the same everywhere:

    N batch    H W pixels    C channels in    O channels out    K kernel side    G groups
    L = H W tokens    E embedding    T diffusion steps    M data set size, or rows of a table
    D = H W C numbers in an image    F features of an image    P parameters of a model
"""

__version__ = "0.1.0"
