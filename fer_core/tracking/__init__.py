"""MLflow: runs, the model registry and the pyfunc model. No other package imports it."""
