"""Parameters of the plain model, and where a 16-bit run rounds.

In 16 bits every operator computes in fp32 and rounds what it writes once: activations on the way
forward, their gradients (the sum over all readers) on the way back. Parameters are read rounded;
their own gradients stay in fp32 and belong to the fp32 masters.
"""

import torch


class Activation(torch.autograd.Function):
    """Rounded, including its gradient."""

    @staticmethod
    def forward(ctx, x, dtype):
        ctx.dtype = dtype
        return x.to(dtype).to(x.dtype)

    @staticmethod
    def backward(ctx, dx):
        return dx.to(ctx.dtype).to(dx.dtype), None


class Weight(torch.autograd.Function):
    """Rounded; its gradient is that of the master."""

    @staticmethod
    def forward(_, master, dtype):
        return master.to(dtype).to(master.dtype)

    @staticmethod
    def backward(_, dweight):
        return dweight, None


class Parameters(dict):
    """name -> master. `stored_as`: None if nothing is rounded, else a 16-bit dtype."""

    def __init__(self, masters, stored_as=None):
        super().__init__(masters)
        self.stored_as = stored_as

    def __getitem__(self, name):
        master = super().__getitem__(name)
        return master if self.stored_as is None else Weight.apply(master, self.stored_as)

    def stored(self, x):
        return x if self.stored_as is None else Activation.apply(x, self.stored_as)
