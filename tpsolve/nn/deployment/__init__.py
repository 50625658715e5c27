"""From a trained network to one of few bits: binary weights, whole thresholds, packed sums, ONNX."""
