"""The flows of the deployments: each turns the values of its form into settings, and runs the flow of the library.

The flow of the library is imported only in the process of a run.
"""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter, Signature
from typing import Any

from prefect import Flow, flow

from flows.forms.catalog import FORMS


def attribute(name: str) -> str:
    """Return the name of a deployment's flow in this module."""
    return name.replace("-", "_")


def _served(name: str) -> Flow[..., dict[str, Any]]:
    form = FORMS[name]

    def run(**values: Any) -> dict[str, Any]:
        arguments, config = form.settings(values)
        module, _, function = form.flow.rpartition(".")
        result: dict[str, Any] = getattr(import_module(module), function).fn(config=config, **arguments)
        return result

    run.__name__ = attribute(name)
    run.__doc__ = form.about
    # Prefect takes the parameters of a flow from its signature. Their types are those of the form, which checks them.
    run.__signature__ = Signature(  # type: ignore[attr-defined]
        [Parameter(key, Parameter.KEYWORD_ONLY, default=p.info.default) for key, p in form.parameters.items()]
    )
    return flow(name=name, description=form.about, persist_result=False)(run)


card = _served("card")
preprocess = _served("preprocess")
adopt = _served("adopt")
search = _served("search")
compare = _served("compare")
cross_database = _served("cross-database")
reproduce_thesis = _served("reproduce-thesis")
rerun = _served("rerun")
train = _served("train")
promote = _served("promote")
score = _served("score")
watch = _served("watch")
evaluate = _served("evaluate")
end_to_end = _served("end-to-end")
