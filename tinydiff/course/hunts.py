"""Bug hunts: which step of a running algorithm has a slip? Found with instruments, not by reading.

Each function is an exercise; `suspects("hunt_sampler")` brings its suspects. Answers are the
numbers of the steps in its docstring, 0 for a suspect without a slip.
"""

# --- 02_posterior ---


def hunt_step_back():
    """Name the step of `q_posterior` in which A, B, C and D have their slips, 0 for none.

    For images x0 and x_t at time t, one for all or one each:
    1  look the weights c0 and ct up, both for time t (a slip here takes another time)
    2  give each image of the batch its own two weights, in its shape and precision
    3  mean = c0 x0 + ct x_t
    4  look the variance beta_tilde up, for time t
    -> dict, such as {"A": 1, "B": 2, "C": 3, "D": 4}
    """
    return {"A": 3, "B": 0, "C": 4, "D": 2}


# --- 03_reverse ---


def hunt_sampler():
    """Name the step of `ddpm` in which each of the suspects A, B and C has its slip, 0 for none.

    For t = T, T - 1, ..., 1, from pure noise x:
    1  ask the model for the noise in x, at time t
    2  read x0_hat off x and that noise
    3  mean = c0 x0_hat + ct x, the posterior's weights from t to t - 1
    4  spread = sqrt(var[t]), the standard deviation of the fresh noise
    5  z: fresh, standard normal noise, anew in each round
    6  x = mean + spread z
    -> dict, such as {"A": 1, "B": 2, "C": 0}
    """
    return {"A": 4, "B": 0, "C": 5}


# --- 05_ops ---


def hunt_layer():
    """Name the step of `group_norm_grad` in which each of A to E has its slip, 0 for none.

    1  x_hat = (x - mean) rstd, with the mean and rstd of its own bag
    2  g_hat = scale g, what arrives at x_hat
    3  the mean of g_hat over each bag
    4  the mean of g_hat x_hat over each bag
    5  gx: g_hat without the parts that 3 and 4 found, times rstd
    6  gscale: g x_hat, summed over each channel
    7  gshift: g, summed over each channel
    -> dict of five numbers, {"A": 1, "B": 2, ...}
    """
    return {"A": 4, "B": 0, "C": 1, "D": 2, "E": 5}


# --- 06_layers ---


def hunt_optimiser():
    """Name the step of `adam_step` in which each of A to E has its slip, 0 for none.

    1  m: the running average of the gradients
    2  v: the running average of their squares
    3  m_hat and v_hat: m and v, each divided by the sum of its weights
    4  the quotient of m_hat and the root of v_hat, with eps
    5  the pull towards 0, decay theta, beside the quotient
    6  theta moves by lr times the sum of 4 and 5
    -> dict of five numbers, {"A": 1, "B": 2, ...}
    """
    return {"A": 3, "B": 4, "C": 0, "D": 5, "E": 2}


# --- 07_unet ---


def hunt_unet():
    """Name the step of `run_unet` in which each of the suspects has its slip, 0 for none.

    On the way down, for each block:
    1  h = what the block makes of h and e, each image with its own e
    2  keep h as a skip: its value, and the way back to it for the gradient
    3  between two levels halve h
    Below:
    4  h through mid1, attention, mid2
    On the way up, for each block:
    5  join h with the last skip that is still unused
    6  h = what the block makes of that and e, each image with its own e
    7  between two levels double h
    -> dict, such as {"A": 1, "B": 1, "C": 1, "D": 1}
    """
    return {"A": 2, "B": 5, "C": 0, "D": 6}


# --- 08_training ---


def hunt_training():
    """Name the step of `train` in which each of A to E has its slip, 0 for none.

    1  draw images x0 and, from the same rows, their labels
    2  draw t from 1 .. T, for each image by itself
    3  draw eps, new for every value
    4  x_t: noise x0 with eps, as far as t says
    5  the target, v, from the same x0, t and eps
    6  drop some of the labels
    7  a step down the gradient, at the learning rate lr(run.step)
    -> dict of five numbers, {"A": 1, "B": 2, ...}
    """
    return {"A": 2, "B": 1, "C": 0, "D": 4, "E": 6}


# --- 09_fast_sampling ---


def hunt_solver():
    """Name the step of `dpmpp_2m` in which each of the suspects has its slip, 0 for none.

    For each pair of times t, u:
    1  ask the model for the noise in x, at time t
    2  read x0_hat off x and that noise
    3  r = the last step in lam over this one
    4  D = x0_hat, carried on to the middle of the step by its last change and r
    5  keep x0_hat and lam for the next step
    6  x = ct x + c0 D
    -> dict, such as {"A": 1, "B": 1, "C": 1, "D": 1}
    """
    return {"A": 5, "B": 0, "C": 3, "D": 4}


# --- 10_guidance ---


def hunt_guidance():
    """Name the step of `classifier_free` in which each of the suspects has its slip, 0 for none.

    1  ask cond about x_t, at time t
    2  where w is 1, or t is outside the interval, that is the answer; everywhere else go on
    3  ask uncond about x_t, at time t
    4  the answer: from uncond, w times as far as cond is away
    -> dict, such as {"A": 1, "B": 1, "C": 1, "D": 1}
    """
    return {"A": 2, "B": 3, "C": 4, "D": 0}


# --- 11_evaluation ---


def hunt_frechet():
    """Name the step of `frechet` in which each of A, B, C and D has its slip, 0 for none.

    1  both sets as rows of float64
    2  the gap: the difference of the two means
    3  the covariance of each set, around its mean, divided by N - 1 (or M - 1)
    4  the trace of the root of the product: the third term under the trace in (3)
    5  put together: |gap|^2 + the two traces - twice the third; cut off below 0
    -> dict, such as {"A": 1, "B": 2, ...}
    """
    return {"A": 3, "B": 5, "C": 0, "D": 4}


# --- 12_editing ---


def hunt_inpaint():
    """Name the step of `inpaint` in which each of A, B, C and D has its slip, 0 for none.

    1  x_T gets its known part, with the noise of the first time
    2  one step of DDIM from t down to u
    3  the known part goes in, with fresh noise of the level of u
    4  known where the mask is 1, drawn where it is 0
    5  before each further round: back up from u to t, by just the noise that lies between them
    6  no further rounds where u = 0
    7  one array per visited time is yielded
    -> dict, such as {"A": 1, "B": 2, ...}
    """
    return {"A": 5, "B": 3, "C": 0, "D": 1}
