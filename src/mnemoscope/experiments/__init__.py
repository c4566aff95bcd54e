"""Experiments on what makes a model copy: arms that are trained, drawn and compared on the same random numbers."""
