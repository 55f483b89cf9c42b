"""Benchmarks of the CUDA kernels: against the GPU's limits and other libraries, and by count.

Layers, arrows down only: __main__ (command line) -> stopwatch (what is timed, as far as there is
time), table (rows of results) -> contenders (ours, torch, cupy, keops), problem (arrays, what is
right), limits (what the device can do, the clock, floors); launches (our kernels') is below all.
Commands of their own: auto (does device "auto" choose right?), instructions (of the machine, in the
kernels' loops). All but auto do without Theano, and without rbf_op being installed.
"""
