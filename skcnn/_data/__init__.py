"""From what users pass to what a network takes: images, targets, augmentation, samples held out.

What comes in are X, y and sample weights in any form that scikit-learn accepts; what goes out are
checked arrays, kept as `Samples`, and batches of maps, (rows, channels, columns, images), which
`Images` standardises as they are used. This folder must not know what becomes of the maps: no
networks, no training, no estimators but for the names in their errors.
"""
