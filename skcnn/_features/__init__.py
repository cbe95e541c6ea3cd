"""Convolutional features: banks of filters, patches they are learned from, and their attribution.

What comes in are checked images and the parameters of a `ConvFeatureExtractor`; what goes out are
`Features`: a `Model` without an output layer, names of its outputs, and the way from values of
features back to pixels. This folder must not know training or estimators.
"""
