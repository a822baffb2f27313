"""Engines: programs that compute a torch network's features faster on the CPU.

`engine.py` is their common interface, `export.py` writes the network as an ONNX graph that they read, `quantize.py`
makes its int8 form, and `choice.py` finds the fastest engine of this machine.
"""
