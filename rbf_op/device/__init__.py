"""The nodes on an NVIDIA GPU, from a Theano graph down to the kernels of cuda/, through PyCUDA.

placement.py: which device a node is for. nodes.py: the nodes there. types.py: variables whose
values live there, and the nodes that copy. elementwise.py: simple updates there. launch.py: the
kernels called on arrays. runtime.py: the device, its memory and compiled kernels. Of these only
placement and runtime are imported where no device is asked for. Imports nothing itself.
"""
