"""Estimators with scikit-learn's manners: single units, and small networks trained exactly."""

from tpsolve.estimators._threshold_network_classifier import ThresholdNetworkClassifier as ThresholdNetworkClassifier
from tpsolve.units._unit_classifier import UnitClassifier as UnitClassifier
