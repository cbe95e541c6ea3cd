"""Access to the parameters of layers through their estimator, as ``layers__0__filters``."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from skcnn.layers._names import activation_hint


def refuse_booleans(params: Mapping[str, Any], constraints: Mapping[str, Any]) -> None:
    """Raise a `ValueError` for a bool where a number is meant; Python counts it as an int."""
    for name, value in params.items():
        allowed = constraints.get(name, ())
        is_number = any(isinstance(c, Interval) or c is Integral for c in allowed)
        if isinstance(value, bool | np.bool_) and is_number and "boolean" not in allowed:
            raise ValueError(f"{name} must be a number, not a bool. Got {value!r} instead.")


def check_params(
    params: Mapping[str, Any], constraints: Mapping[str, Any], caller_name: str
) -> None:
    """Raise a `ValueError` for the first parameter that its constraints do not allow."""
    try:
        validate_parameter_constraints({**constraints}, {**params}, caller_name)
    except ValueError as error:
        hint = activation_hint(params.get("activation")) if "'activation'" in str(error) else ""
        raise type(error)(f"{error}{hint}") from None
    refuse_booleans(params, constraints)


@contextmanager
def naming(parameter: str, requirement: str) -> Iterator[None]:
    """Have errors of scikit-learn's and NumPy's name the parameter, and say what it must be."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if re.search(rf"(^|Input |for ){parameter}\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{parameter} must be {requirement}. {error}") from None


class KnownParamsMixin:
    """Refuses names of parameters that do not exist before any parameter is set."""

    def set_params(self, **params: Any) -> Self:
        """Set parameters.

        Parameters
        ----------
        **params : dict
            Values keyed by the names of the parameters.

        Returns
        -------
        self : estimator instance
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter does not exist. No parameter is set then.
        """
        valid = self._get_param_names()
        for path in params:
            name, is_nested, _ = path.partition("__")
            if name not in valid:
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(self).__name__}. "
                    f"Valid parameters are: {valid!r}."
                )
            value = params.get(name, getattr(self, name))
            if is_nested and not hasattr(value, "set_params"):
                raise ValueError(
                    f"Invalid parameter {path!r} for estimator {type(self).__name__}: {name} must "
                    f"have parameters of its own. Got {value!r} instead."
                )
        return super().set_params(**params)


class StrictParamsMixin(KnownParamsMixin):
    """Refuses booleans in place of numbers, beside scikit-learn's own checks."""

    def _validate_params(self):
        params = self.get_params(deep=False)
        check_params(params, self._parameter_constraints, type(self).__name__)


class LayerParamsMixin:
    """Gives `get_params` and `set_params` access to the layers in the sequence `layers`.

    ``layers__1`` is the second layer, ``layers__1__pool_size`` one of its parameters. A layer is
    cloned before it is changed, so that defaults and the user's objects stay as they are.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator and of its layers.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the layers and their parameters.

        Returns
        -------
        params : dict
            Values keyed by the names of the parameters.
        """
        params = super().get_params(deep=deep)
        if deep and isinstance(self.layers, tuple | list):
            for index, layer in enumerate(self.layers):
                params[f"layers__{index}"] = layer
                if hasattr(layer, "get_params") and not isinstance(layer, type):
                    for name, value in layer.get_params().items():
                        params[f"layers__{index}__{name}"] = value
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``layers__0__filters=8`` sets one of the first layer.

        Parameters
        ----------
        **params : dict
            Values keyed by the names of the parameters.

        Returns
        -------
        self : estimator instance
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter does not exist or an index is out of range. No parameter is set then.
        """
        nested = {name: params[name] for name in params if name.startswith("layers__")}
        plain = {name: value for name, value in params.items() if name not in nested}
        if nested:
            layers = plain.get("layers", self.layers)
            plain["layers"] = _with_params(layers, nested, type(self).__name__)
        return super().set_params(**plain)


def _with_params(layers, nested, owner):
    """Return a copy of `layers` with the nested parameters set, whole layers before their own."""
    if not isinstance(layers, tuple | list):
        raise ValueError(f"layers must be a tuple or a list of layers. Got {layers!r} instead.")
    changed = list(layers)
    for path in sorted(nested, key=lambda path: path.count("__")):
        index, _, name = path.removeprefix("layers__").partition("__")
        if not index.isdecimal() or int(index) >= len(changed):
            valid = (
                f"layers__0 to layers__{len(changed) - 1}" if changed else "none: layers is empty"
            )
            raise ValueError(
                f"Invalid parameter {path!r} for estimator {owner}. Valid layers are: {valid}."
            )
        if name:
            layer = changed[int(index)]
            if isinstance(layer, type) or not hasattr(layer, "set_params"):
                raise ValueError(f"layers[{index}] must be a layer. Got {layer!r} instead.")
            changed[int(index)] = clone(layer).set_params(**{name: nested[path]})
        else:
            changed[int(index)] = nested[path]
    return type(layers)(changed)
