"""The forms of the Prefect UI: which settings each deployment shows, in which order, and how they are checked.

Importing this package loads neither torch nor a flow: the server checks forms with it, and the process that serves the
deployments stays small.
"""
