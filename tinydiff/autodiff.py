"""Reverse-mode automatic differentiation: record the operations, then walk them backwards.

The whole idea: an operation returns its value and its vjp ("vector-Jacobian product"), the function
that takes g, the derivative of the loss with respect to that value, to the derivatives with respect
to the operation's inputs: g -> J^T g. A Tensor's node remembers which operation made it from what;
`gradient` applies the vjps in reverse order (the chain rule).

A Tensor is a variable, a plain array is a constant. Operations on constants alone record nothing.
"""

from functools import wraps


class Node:
    """Record how a value was computed, without the value itself.

    So whatever no vjp needs is freed while the network is still running.
    shape: of the value; parents: the Node of each argument, None for a constant; vjp: g, of that
    shape -> one gradient per argument, or None for a leaf
    Nodes form no cycles, so a graph is freed as soon as its last Tensor is dropped.
    """

    # "__weakref__" allows weak references, by which tests observe that a dropped graph is freed
    __slots__ = ("shape", "parents", "vjp", "__weakref__")

    def __init__(self, shape, parents, vjp):
        self.shape, self.parents, self.vjp = shape, parents, vjp


class Tensor:
    """Hold a variable: a value and the Node that records how it was computed.

    value: array of any shape; args: the arguments of the operation that made it, Tensors or not;
    vjp: see Node
    """

    __slots__ = ("value", "node", "__weakref__")
    __array_ufunc__ = None  # so that `array * tensor` calls Tensor.__rmul__, which ops.py defines

    def __init__(self, value, args=(), vjp=None):
        parents = tuple(a.node if isinstance(a, Tensor) else None for a in args)
        self.value, self.node = value, Node(value.shape, parents, vjp)

    @property
    def shape(self):
        return self.value.shape

    @property
    def ndim(self):
        return self.value.ndim

    @property
    def dtype(self):
        return self.value.dtype

    def __repr__(self):
        return f"Tensor({self.value!r})"


def value_of(x):
    """Give a Tensor's array; a plain array passes unchanged. Any shape (...) -> the same (...)"""
    return x.value if isinstance(x, Tensor) else x


def op(forward):
    """Lift `forward(*arrays, **options) -> (value, vjp)` to an operation on Tensors and arrays.

    Positional arguments are differentiable inputs, keywords are not. If any input is a Tensor, so
    is the result; else it is a plain array. vjp(g) gives one gradient per input; where an input was
    broadcast, `gradient` sums its gradient back to its shape.
    """

    @wraps(forward)
    def lifted(*args, **options):
        value, vjp = forward(*map(value_of, args), **options)
        return Tensor(value, args, vjp) if any(isinstance(a, Tensor) for a in args) else value

    lifted.forward = forward
    return lifted


def unbroadcast(g, shape):
    """Sum g over the axes along which an input was repeated: the adjoint of broadcasting.

    shape: of the input; g: (...), a shape to which `shape` broadcasts -> array of exactly `shape`
    """
    if g.shape == shape:
        return g
    new = g.ndim - len(shape)
    stretched = [i + new for i, n in enumerate(shape) if n == 1 and g.shape[i + new] != 1]
    for axis in [*range(new), *stretched]:  # one by one: in NumPy much faster than all at once
        g = g.sum(axis, keepdims=True)
    return g.reshape(shape)


def gradient(loss, params, free=False):
    """Differentiate a scalar loss with respect to Tensors: the chain rule, from the loss backwards.

    loss: Tensor with one element; params: list of Tensors -> list of arrays shaped like them, zeros
    where loss does not depend on one. Gradients may share memory.
    The graph stays as it was: nothing is accumulated, and a second call gives the same.
    free: let go of each vjp, and of the values it holds, once it is used: that takes less memory,
    but leaves nothing for a second call
    Raises TypeError when loss is a plain array (nothing was recorded), ValueError when it has
    several elements.
    """
    if not isinstance(loss, Tensor):
        why = "no Tensor went into it, so there is nothing to differentiate"
        raise TypeError(f"loss is a plain array: {why}")
    if loss.value.size != 1:
        raise ValueError(f"loss must be one number; it has shape {loss.shape}")
    # x ** 0 is 1 in x's own kind of array, also where x is inf or NaN (x * 0 + 1 is NaN there). Not
    # np.ones: autodiff imports no NumPy, and the array may live on a GPU
    grads = {id(loss.node): loss.value**0}
    kept = {id(p.node) for p in params}
    for node in _backwards(loss.node):
        g = grads.get(id(node)) if id(node) in kept else grads.pop(id(node), None)
        if g is None or node.vjp is None:
            continue
        g_parents = node.vjp(g)
        if free:
            node.vjp = _freed
        for parent, g_parent in zip(node.parents, g_parents, strict=True):
            if parent is not None:
                g_parent = unbroadcast(g_parent, parent.shape)
                before = grads.get(id(parent))
                grads[id(parent)] = g_parent if before is None else before + g_parent
    return [grads[id(p.node)] if id(p.node) in grads else p.value**0 - 1 for p in params]


def _freed(g):
    raise RuntimeError("this graph was freed by gradient(..., free=True): run the network again")


def _backwards(last):
    """List the Nodes so that each comes after all that were computed from it.

    last: Node -> iterator of Nodes; a loop with its own stack, so no recursion limit
    """
    order, seen, stack = [], set(), [(last, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((p, False) for p in node.parents if p is not None)
    return reversed(order)
