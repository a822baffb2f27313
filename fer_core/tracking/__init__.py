"""Who talks to MLflow: runs, the model registry, and the pyfunc door. The only room that imports it."""
