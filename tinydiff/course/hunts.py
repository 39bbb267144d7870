"""Bug hunts: which step of a running algorithm has a slip? Found with instruments, not by reading.

Each function is an exercise; `suspects("hunt_sampler")` brings its suspects. Answers are the
numbers of the steps in its docstring, 0 for a suspect without a slip.
"""

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
