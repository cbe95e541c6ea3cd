"""Networks: layers over one vector of weights, their forward pass, and what can be said of them.

What comes in are layers, weights and `Images`; what goes out are outputs, gradients, traces of every
array on the way, and tables. `Network` places the weights and fuses layers, `Model` holds all that a
prediction needs, `shards` cuts batches. This folder must not know how weights are found: no
optimizers, no epochs, no early stopping.
"""
