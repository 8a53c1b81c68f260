"""Seeing inside networks: shapes, operations and receptive fields, kernels, feature maps."""
