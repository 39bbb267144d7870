"""Restoration: a picture is small, grey, blurred or noisy, and it is known how it became so. Draw what it may have been.

The way it was degraded is known, so one model that draws such pictures serves for all: nothing is trained for the task.
"""

from .diffusion import predict_eps, predict_x0


def project(eps_model, s, y, A, A_pinv):
    """Draw an image of which only y = A(x0) is known, small, grey or blurred: give a model, for any sampler, whose images agree with y.

    x0_hat <- x0_hat + A_pinv(y - A(x0_hat)), x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t));  eps_hat follows from the new x0_hat
    A: a linear map of images (N, ...); A_pinv: its pseudo-inverse, so that only what A sees is changed: where A takes the mean of 2 x 2
    pixels, or of the channels, A_pinv repeats it; y: A(images) without noise
    -> eps_model: (x_t (N, ...), t int 1 .. T) -> eps_hat (N, ...); the last step of a sampler returns x0_hat, so A(x0) = y to rounding
    Like a single round of inpaint no exact conditioning: the rest feels y only through x_t. Source: Wang et al. 2023 (DDNM).
    """

    def agreeing(x_t, t):
        x0_hat = predict_x0(s, x_t, t, eps_model(x_t, t))
        return predict_eps(s, x_t, t, x0_hat + A_pinv(y - A(x0_hat)))

    return agreeing
