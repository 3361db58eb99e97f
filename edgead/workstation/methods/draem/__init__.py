"""DRAEM: networks of reconstruction and segmentation, learnt from simulated anomalies."""
