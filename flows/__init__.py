"""The application: the flows, the command line, and what serves them.

Importing it prepares the environment for torch: this file alone is sure to run before torch is imported, whoever starts
the process: the command line, Prefect's child for one run of a served flow, a worker of a Dask cluster.
"""

from fer_core.runtime import prepare_torch

prepare_torch()
