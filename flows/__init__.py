"""The application: the flows, the command line, and what serves them.

Importing it prepares the environment for torch. In every process, this file is the first that runs before torch is
imported: in the command line, in Prefect's child process for a run of a served flow, and in a Dask worker.
"""

from fer_core.runtime import prepare_torch

prepare_torch()
