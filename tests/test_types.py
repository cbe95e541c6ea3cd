"""The public API has type hints for each parameter and each result."""

import inspect

import pytest

import skcnn
from skcnn import architectures, filters, inspection, layers

MODULES = (skcnn, layers, inspection, architectures, filters)


def public(module):
    names = getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")])
    for name in names:
        value = getattr(module, name)
        is_code = inspect.isroutine(value) or inspect.isclass(value)
        if is_code and getattr(value, "__module__", "").startswith("skcnn"):
            yield value


def callables(value):
    if not inspect.isclass(value):
        return [value]
    methods = [value.__init__] if "__init__" in vars(value) else []
    for name, member in vars(value).items():
        function = getattr(member, "__func__", getattr(member, "fn", member))
        if not name.startswith("_") and inspect.isfunction(inspect.unwrap(function)):
            methods.append(function)
    return methods


EVERYTHING = {
    f"{function.__module__}.{function.__qualname__}": function
    for module in MODULES
    for value in public(module)
    for function in callables(value)
    if not issubclass(value if inspect.isclass(value) else object, (dict, tuple))
}


@pytest.mark.parametrize("function", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_hints_are_complete(function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for name, parameter in signature.parameters.items():
        if name not in ("self", "cls"):
            assert parameter.annotation is not inspect.Parameter.empty, name


def test_what_is_checked():
    names = {name.rsplit(".", 2)[-2] + "." + name.rsplit(".", 1)[-1] for name in EVERYTHING}
    assert names >= {"CNNClassifier.partial_fit", "Conv.__init__", "MaxPool.forward"}
    assert names >= {"FilterDisplay.plot", "Layer.backward", "ConvFeatureExtractor.fit"}
    assert len(EVERYTHING) > 60
