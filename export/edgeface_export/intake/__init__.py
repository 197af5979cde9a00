"""Networks whose structure comes with the file or from the user, not from the table of layouts.

Caffe's ``.prototxt`` and ONNX graphs are turned into the layers of
:mod:`edgeface_export.architectures.network`, so that everything after recognition (parity, gates,
INT8, artefacts for CPUs) is the same for them. A user's own module, TorchScript and ``.pt2`` come
through ONNX, with torch.
"""
