"""Bug hunts: which step of a running algorithm has a slip? Found with instruments, not by reading.

Each function is an exercise; `suspects("hunt_sampler")` brings its suspects. Answers are the
numbers of the steps in its docstring, 0 for a suspect without a slip.
"""

# --- 02_posterior ---


def hunt_step_back():
    """Name the step of `q_posterior` in which A, B, C and D have their slips, 0 for none.

    For images x0 and x_t at time t, one for all or one each:
    1  look the weights c0 and ct up, both for time t
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
