"""Prediction of new slides: encoding, pooling over fold models, files and pages."""
